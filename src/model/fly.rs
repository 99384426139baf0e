//! What there is on Fly.io: regions, sizes of machines and volumes, names of apps.

pub use super::cpu_kind::CpuKind;
use super::fingerprint::Digest;
use super::identifier::BackendId;
use super::name::InstanceName;
use super::size::ByteSize;
use super::spec::BackendSpec;

/// The note under which the control plane keeps the name of a backend's app, from before it is first made.
pub const APP_KEY: &str = "app";
/// The note about the region that a backend came to be in, which is one of those that were allowed.
pub const REGION_KEY: &str = "region";
/// The key of the backend whose app was retained when it was removed: this one takes it up.
pub const RETAINED_BACKEND_KEY: &str = "app_of";
/// The key that says that an app which nothing proves to be the backend's may be adopted: its user may do so.
pub const ADOPT_APP_KEY: &str = "app_adopt";

/// The regions that a backend may be in, the first choice first.
pub fn regions(spec: &BackendSpec) -> Vec<&str> {
    let mut regions: Vec<&str> = spec.region.as_deref().into_iter().collect();
    for other in &spec.settings.fly.fallback_regions {
        if !regions.is_empty() && !regions.contains(&other.as_str()) {
            regions.push(other);
        }
    }
    regions
}
/// The URL that every app has by itself.
pub fn app_url(app: &str) -> String {
    format!("https://{app}.fly.dev")
}

/// The regions in which machines run.
pub const REGIONS: [&str; 18] = [
    "ams", "arn", "bom", "cdg", "dfw", "ewr", "fra", "gru", "iad", "jnb", "lax", "lhr", "nrt", "ord", "sin", "sjc", "syd",
    "yyz",
];

/// The size of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest {
    /// Its kind of processor.
    pub cpu_kind: CpuKind,
    /// How many of them.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u32,
}

/// What a dashboard runs on.
pub const DASHBOARD_GUEST: Guest = Guest { cpu_kind: CpuKind::Shared, cpus: 1, memory_mb: 1024 };

/// The size of a volume where none is asked for, in GiB: Convex keeps half a GiB of search indexes and 14 days of
/// exports there, beside the documents.
const DEFAULT_VOLUME_GB: u32 = 5;
/// The largest volume, in GiB.
const MAX_VOLUME_GB: u64 = 500;

/// Why no machine or volume has the size that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Machines have whole numbers of processors, and not every one.
    #[error("Fly has no machine with {asked} {kind} cpus; there are {}", list(kind.counts()))]
    Cpus {
        /// The kind.
        kind: CpuKind,
        /// As it was asked for.
        asked: String,
    },
    /// The memory does not go with the processors.
    #[error(
        "Fly has no machine with {cpus} {kind} cpus and {asked}: with so many it has {least} MiB to {most} MiB, in steps of {step} MiB"
    )]
    Memory {
        /// The kind.
        kind: CpuKind,
        /// How many processors.
        cpus: u32,
        /// As it was asked for.
        asked: ByteSize,
        /// The least, in MiB.
        least: u32,
        /// The most, in MiB.
        most: u32,
        /// The multiple, in MiB.
        step: u32,
    },
    /// No machine has as much memory, or the amount is no multiple of the step.
    #[error("Fly has no machine of {kind} cpus with {asked}: memory comes in steps of {step} MiB, up to {most} MiB")]
    MemoryAlone {
        /// The kind.
        kind: CpuKind,
        /// As it was asked for.
        asked: ByteSize,
        /// The multiple, in MiB.
        step: u32,
        /// The most, in MiB.
        most: u32,
    },
    /// A volume is at most so large.
    #[error("Fly has no volume of {asked}; the largest has {MAX_VOLUME_GB} GiB")]
    Volume {
        /// As it was asked for.
        asked: ByteSize,
    },
}

fn list(counts: &[u32]) -> String {
    counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Guest {
    /// The machine for a specification. Where it does not say, this is what Convex's own file for Fly has: four
    /// shared processors and 1 GiB.
    ///
    /// # Errors
    /// [`SizeError`] when there is no machine of the size that was asked for: nothing is rounded.
    pub fn from_spec(spec: &BackendSpec) -> Result<Self, SizeError> {
        let cpu_kind = spec.settings.fly.cpu_kind;
        let (least, most) = cpu_kind.memory_per_cpu();
        let step = cpu_kind.memory_step();
        let memory = spec.resources.memory.map(|size| (size, whole_mib(size).filter(|mib| mib.is_multiple_of(step))));
        let fits = |cpus: u32, mib: u32| (least * cpus..=most * cpus).contains(&mib);
        let Some(asked) = spec.resources.cpus else {
            // More of the common size first, then less.
            let preferred: &[u32] = match cpu_kind {
                CpuKind::Shared => &[4, 6, 8, 2, 1],
                CpuKind::Performance => cpu_kind.counts(),
            };
            let found = match memory {
                None => preferred.first().map(|cpus| (*cpus, 1024.max(least * cpus))),
                Some((_, mib)) => mib.and_then(|mib| Some((*preferred.iter().find(|cpus| fits(**cpus, mib))?, mib))),
            };
            let Some((cpus, memory_mb)) = found else {
                let asked = spec.resources.memory.unwrap_or_default();
                let most = most * cpu_kind.counts().last().copied().unwrap_or(1);
                return Err(SizeError::MemoryAlone { kind: cpu_kind, asked, step, most });
            };
            return Ok(Self { cpu_kind, cpus, memory_mb });
        };
        let cpus = asked.milli() / 1000;
        if asked.milli() % 1000 != 0 || !cpu_kind.counts().contains(&cpus) {
            return Err(SizeError::Cpus { kind: cpu_kind, asked: asked.to_string() });
        }
        let (least, most) = (least * cpus, most * cpus);
        match memory {
            None => Ok(Self { cpu_kind, cpus, memory_mb: 1024.clamp(least, most) }),
            Some((_, Some(memory_mb))) if (least..=most).contains(&memory_mb) => Ok(Self { cpu_kind, cpus, memory_mb }),
            Some((asked, _)) => Err(SizeError::Memory { kind: cpu_kind, cpus, asked, least, most, step }),
        }
    }
}

fn whole_mib(size: ByteSize) -> Option<u32> {
    let mib = size.bytes() / (1 << 20);
    if !size.bytes().is_multiple_of(1 << 20) {
        return None;
    }
    u32::try_from(mib).ok()
}

/// The size of a specification's volume, in whole GiB.
///
/// # Errors
/// [`SizeError::Volume`] when no volume is as large.
pub fn volume_gb(spec: &BackendSpec) -> Result<u32, SizeError> {
    let Some(asked) = spec.resources.disk else { return Ok(DEFAULT_VOLUME_GB) };
    let gb = asked.bytes().div_ceil(1 << 30);
    match u32::try_from(gb) {
        Ok(gb) if u64::from(gb) <= MAX_VOLUME_GB => Ok(gb),
        _ => Err(SizeError::Volume { asked }),
    }
}

/// The longest name that is given to an app. Fly takes 63; a dashboard's app is longer by two.
const MAX_APP_NAME: usize = 58;

/// The name of a backend's app: names are global on Fly, so a suffix that follows from the backend's identity tells it
/// from everybody else's. `attempt` counts the names that turned out to be taken.
pub fn app_name(instance: &InstanceName, id: &BackendId, attempt: u32) -> String {
    let digest = Digest::of(format!("{id} {attempt}").as_bytes());
    let suffix: String = digest.as_str().trim_start_matches("sha256:").chars().take(8).collect();
    let mut stem = instance.as_str();
    if stem.len() + 1 + suffix.len() > MAX_APP_NAME {
        stem = stem.get(..MAX_APP_NAME - 1 - suffix.len()).unwrap_or(stem).trim_end_matches('-');
    }
    format!("{stem}-{suffix}")
}

/// The name of the app of a backend's dashboard.
pub fn dashboard_app_name(app: &str) -> String {
    format!("{app}-d")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cpus, ProviderKind};

    fn spec(cpus: Option<f64>, memory: Option<&str>) -> BackendSpec {
        let mut spec = BackendSpec::new(ProviderKind::Fly);
        spec.resources.cpus = cpus.map(|cpus| Cpus::from_cores(cpus).unwrap());
        spec.resources.memory = memory.map(|memory| ByteSize::parse(memory).unwrap());
        spec
    }

    fn guest(cpus: Option<f64>, memory: Option<&str>) -> Result<(u32, u32), SizeError> {
        Guest::from_spec(&spec(cpus, memory)).map(|guest| (guest.cpus, guest.memory_mb))
    }

    #[test]
    fn a_machine_size_is_exact_or_refused() {
        assert_eq!(guest(None, None), Ok((4, 1024)));
        assert_eq!(guest(Some(1.0), Some("2 GiB")), Ok((1, 2048)));
        assert_eq!(guest(None, Some("512 MiB")), Ok((2, 512)));
        assert_eq!(guest(None, Some("12 GiB")), Ok((6, 12_288)));
        assert_eq!(guest(Some(8.0), None), Ok((8, 2048)));
        assert!(matches!(guest(Some(0.5), None), Err(SizeError::Cpus { .. })));
        assert!(matches!(guest(Some(3.0), None), Err(SizeError::Cpus { .. })));
        assert!(matches!(guest(Some(1.0), Some("4 GiB")), Err(SizeError::Memory { most: 2048, .. })));
        assert!(matches!(guest(Some(1.0), Some("300 MiB")), Err(SizeError::Memory { step: 256, .. })));
        assert!(matches!(guest(None, Some("20 GiB")), Err(SizeError::MemoryAlone { .. })));
        assert!(matches!(guest(None, Some("2 GB")), Err(SizeError::MemoryAlone { .. })));
        let mut large = spec(None, Some("20 GiB"));
        large.settings.fly.cpu_kind = CpuKind::Performance;
        assert_eq!(Guest::from_spec(&large), Ok(Guest { cpu_kind: CpuKind::Performance, cpus: 4, memory_mb: 20_480 }));
    }

    #[test]
    fn volume_sizes_are_whole_and_bounded() {
        let mut spec = spec(None, None);
        assert_eq!(volume_gb(&spec), Ok(5));
        for (disk, gb) in [("10 GiB", 10), ("1.5 GiB", 2), ("10 GB", 10), ("500 GiB", 500)] {
            spec.resources.disk = Some(ByteSize::parse(disk).unwrap());
            assert_eq!(volume_gb(&spec), Ok(gb), "{disk}");
        }
        spec.resources.disk = Some(ByteSize::parse("501 GiB").unwrap());
        assert!(volume_gb(&spec).is_err());
    }

    #[test]
    fn app_names_are_stable_short_and_their_own() {
        let (one, other) = (BackendId::new("abc"), BackendId::new("abd"));
        let instance = InstanceName::parse("gremlin-dev").unwrap();
        let name = app_name(&instance, &one, 0);
        assert!(name.starts_with("gremlin-dev-") && name.len() == "gremlin-dev-".len() + 8, "{name}");
        assert_eq!(name, app_name(&instance, &one, 0));
        assert_ne!(name, app_name(&instance, &other, 0));
        assert_ne!(name, app_name(&instance, &one, 1));
        let long = InstanceName::parse(&format!("{}-x{}", "a".repeat(47), "bcd")).unwrap();
        let name = app_name(&long, &one, 0);
        assert!(dashboard_app_name(&name).len() <= 60 && !name.contains("--"), "{name}");
    }
}
