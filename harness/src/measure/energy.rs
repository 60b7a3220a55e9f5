//! Energy of the processor, where the system lets one read it: Linux' powercap counters (RAPL). They count the whole package with everything
//! that runs on it, so a figure is as good as the machine was idle otherwise. Most systems let only root read them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux shows its counters.
const POWERCAP: &str = "/sys/class/powercap";

/// The counters of a machine; none where it shows none.
#[derive(Debug, Clone, Default)]
pub struct EnergyMeter {
    zones: Vec<Zone>,
}

/// A counter that grows up to `range` and begins anew, in microjoules.
#[derive(Debug, Clone)]
struct Zone {
    counter: PathBuf,
    range: u64,
}

/// The counters at one time.
#[derive(Debug, Clone)]
pub struct EnergyReading(Vec<u64>);

impl EnergyMeter {
    /// The counters of this machine.
    pub fn of_machine() -> Self {
        Self::at(Path::new(POWERCAP))
    }

    /// The counters under a folder that is laid out like `/sys/class/powercap`: processor packages, and memory beside them. Zones within a
    /// package (cores, graphics) are counted with it already, and `psys` counts packages again.
    pub fn at(root: &Path) -> Self {
        let Ok(entries) = fs::read_dir(root) else { return Self::default() };
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        folders.sort();
        Self { zones: folders.iter().filter_map(|folder| zone(folder)).collect() }
    }

    /// The counters now; nothing if there are none or one cannot be read.
    pub fn read(&self) -> Option<EnergyReading> {
        let values: Option<Vec<u64>> = self.zones.iter().map(|zone| number(&zone.counter)).collect();
        values.filter(|values| !values.is_empty()).map(EnergyReading)
    }

    /// Microjoules since a reading. A counter that has begun anew once in between is right, twice is not: packages take minutes for a round.
    pub fn microjoules_since(&self, before: &EnergyReading) -> Option<u64> {
        let now = self.read()?;
        let used =
            |((zone, now), before): ((&Zone, u64), &u64)| now.checked_sub(*before).unwrap_or(zone.range.saturating_sub(*before) + now);
        Some(self.zones.iter().zip(now.0).zip(&before.0).map(used).sum())
    }

    /// The same in joules.
    pub fn joules_since(&self, before: &EnergyReading) -> Option<f64> {
        self.microjoules_since(before).map(|microjoules| microjoules as f64 / 1e6)
    }
}

fn zone(folder: &Path) -> Option<Zone> {
    let name = fs::read_to_string(folder.join("name")).ok()?;
    let is_counted = name.starts_with("package") || name.trim() == "dram";
    let counter = folder.join("energy_uj");
    let range = number(&folder.join("max_energy_range_uj"))?;
    (is_counted && number(&counter).is_some_and(|now| now <= range)).then_some(Zone { counter, range })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of counters as Linux lays it out.
    fn powercap(zones: &[(&str, &str, u64)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (folder, name, energy) in zones {
            let folder = root.path().join(folder);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("name"), format!("{name}\n")).unwrap();
            fs::write(folder.join("max_energy_range_uj"), "1000000\n").unwrap();
            fs::write(folder.join("energy_uj"), format!("{energy}\n")).unwrap();
        }
        root
    }

    fn set(root: &tempfile::TempDir, zone: &str, energy: u64) {
        fs::write(root.path().join(zone).join("energy_uj"), energy.to_string()).unwrap();
    }

    #[test]
    fn packages_and_memory_are_summed_and_parts_of_packages_are_not() {
        let root = powercap(&[
            ("intel-rapl:0", "package-0", 100),
            ("intel-rapl:0:0", "core", 50),
            ("intel-rapl:0:1", "dram", 10),
            ("intel-rapl:1", "package-1", 7),
            ("intel-rapl:2", "psys", 1000),
        ]);
        let meter = EnergyMeter::at(root.path());
        let before = meter.read().unwrap();
        for (zone, energy) in [("intel-rapl:0", 300), ("intel-rapl:0:0", 90), ("intel-rapl:0:1", 15), ("intel-rapl:1", 8)] {
            set(&root, zone, energy);
        }
        assert_eq!(meter.microjoules_since(&before), Some(200 + 5 + 1));
        assert!((meter.joules_since(&before).unwrap() - 206e-6).abs() < 1e-15);
    }

    #[test]
    fn a_counter_that_begins_anew_is_followed() {
        let root = powercap(&[("intel-rapl:0", "package-0", 999_900)]);
        let meter = EnergyMeter::at(root.path());
        let before = meter.read().unwrap();
        set(&root, "intel-rapl:0", 50);
        assert_eq!(meter.microjoules_since(&before), Some(150));
    }

    #[test]
    fn a_machine_that_shows_nothing_is_not_measured() {
        let empty = tempfile::tempdir().unwrap();
        assert!(EnergyMeter::at(empty.path()).read().is_none());
        assert!(EnergyMeter::at(&empty.path().join("nowhere")).read().is_none());
        let unreadable = powercap(&[("intel-rapl:0", "package-0", 1)]);
        let meter = EnergyMeter::at(unreadable.path());
        let before = meter.read().unwrap();
        fs::remove_file(unreadable.path().join("intel-rapl:0/energy_uj")).unwrap();
        assert_eq!(meter.microjoules_since(&before), None);
    }
}
