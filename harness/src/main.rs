//! The command `ragft`.

fn main() -> std::process::ExitCode {
    ragft::cli::main()
}
