//! What the process has used so far, as the operating system tells it.

use crate::store::manifest::MachineRecord;

/// CPU time of the process, all threads, in seconds.
pub fn cpu_seconds() -> f64 {
    let Ok(pid) = sysinfo::get_current_pid() else { return 0.0 };
    let mut system = sysinfo::System::new();
    system.refresh_processes_specifics(
        sysinfo::ProcessesToUpdate::Some(&[pid]),
        false,
        sysinfo::ProcessRefreshKind::nothing().with_cpu().without_tasks(),
    );
    system.process(pid).map_or(0.0, |process| process.accumulated_cpu_time() as f64 / 1e3)
}

/// CPU time of the process' living threads in nanoseconds, for stretches in which none ends; `None` where the system does not tell (only
/// Linux does).
pub fn cpu_ns() -> Option<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        // A thread may have ended since it was listed.
        let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (sum > 0).then_some(sum)
}

/// Peak resident memory of the process in bytes; `None` where the system does not tell (only Linux does).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Main memory that is free or can be freed, in bytes.
pub fn available_memory_bytes() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    system.available_memory()
}

/// The machine, for the manifest.
pub fn machine(device: &str) -> MachineRecord {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    system.refresh_cpu_all();
    MachineRecord {
        cpu: system.cpus().first().map_or_else(String::new, |cpu| cpu.brand().trim().to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: rayon::current_num_threads(),
        features: cpu_features(),
        memory_bytes: system.total_memory(),
        os: sysinfo::System::long_os_version().unwrap_or_else(|| std::env::consts::OS.to_owned()),
        device: device.to_owned(),
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<String> {
    let found = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ];
    found.into_iter().filter(|(_, present)| *present).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<String> {
    vec![std::env::consts::ARCH.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_grows_with_work() {
        let before = cpu_seconds();
        let watch = crate::clock::Stopwatch::start();
        let mut sum = 0u64;
        // A busy machine gives a process little of its time.
        while cpu_seconds() < before + 0.02 && watch.elapsed().as_secs() < 30 {
            (0..1_000_000).for_each(|_| sum = std::hint::black_box(sum.wrapping_add(1)));
        }
        assert!(cpu_seconds() >= before + 0.02, "{sum}");
    }

    #[test]
    fn nanoseconds_of_threads_grow_with_their_work() {
        let Some(before) = cpu_ns() else { return };
        let watch = crate::clock::Stopwatch::start();
        let mut sum = 0u64;
        while watch.elapsed().as_millis() < 30 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_ns().unwrap() > before, "{sum}");
    }
}
