//! A temporary folder and the command.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use tempfile::TempDir;

pub struct Sandbox(TempDir);

impl Sandbox {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    #[track_caller]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("ragft").unwrap();
        command.current_dir(self.0.path()).env("NO_COLOR", "1").args(args);
        command
    }

    /// Runs the command; the exit code must be `code`. Gives what was printed.
    #[track_caller]
    pub fn run(&self, code: i32, args: &[&str]) -> Printed {
        let output: Output = self.command(args).output().unwrap();
        let printed = Printed {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{}\n{}", printed.out, printed.err);
        printed
    }
}

pub struct Printed {
    pub out: String,
    pub err: String,
}

/// Root of the sources.
pub fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the harness stands in the workspace")
}
