//! What an engine can limit, what it has, and which limits it can so not give.

use crate::model::{ByteSize, Resources};
use crate::provider::ProviderError;

/// The least memory that engines take for a limit.
const MIN_MEMORY: u64 = 6 * 1024 * 1024;
/// The least share of a processor that they can measure out, in thousandths.
const MIN_MILLI_CPUS: u32 = 10;

/// Which limits an engine can enforce. A rootless one often cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EngineCapabilities {
    pub(super) memory: bool,
    pub(super) swap: bool,
    pub(super) cpus: bool,
    pub(super) pids: bool,
}

/// What the machine of an engine has, as far as it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EngineCapacity {
    pub(super) cpus: Option<i64>,
    /// Bytes.
    pub(super) memory: Option<i64>,
}

/// Refuses limits that the engine cannot give, by the names of their fields.
pub(super) fn validate_limits(
    resources: &Resources,
    enforces: EngineCapabilities,
    capacity: EngineCapacity,
) -> Result<(), ProviderError> {
    let refused = |reason: String| Err(ProviderError::Unsupported(reason));
    let missing =
        [(resources.memory.is_some() && !enforces.memory, "memory"), (resources.cpus.is_some() && !enforces.cpus, "cpus")];
    if let Some((_, name)) = missing.iter().find(|(missing, _)| *missing) {
        return refused(format!(
            "this Docker engine cannot limit `resources.{name}` (a rootless engine needs cgroup v2 with that controller \
             delegated): leave `resources.{name}` out, or use another engine"
        ));
    }
    if let Some(cpus) = resources.cpus {
        if let Some(count) = capacity.cpus.filter(|count| *count > 0 && i64::from(cpus.milli()) > count.saturating_mul(1000)) {
            let plural = if count == 1 { "" } else { "s" };
            return refused(format!("`resources.cpus` is {cpus}, and this engine has {count} CPU{plural}"));
        }
        if cpus.milli() < MIN_MILLI_CPUS {
            return refused(format!("`resources.cpus` is {cpus}, and Docker engines measure out 0.01 at least"));
        }
    }
    if let Some(memory) = resources.memory {
        let has = capacity.memory.and_then(|memory| u64::try_from(memory).ok()).filter(|memory| *memory > 0);
        // A machine shows somewhat less than it is sold with.
        if let Some(has) = has.filter(|has| memory.bytes() - memory.bytes() / 8 > *has) {
            let has = ByteSize::from_bytes(has - has % (1024 * 1024));
            return refused(format!("`resources.memory` is {memory}, and this engine has {has}"));
        }
        if memory.bytes() < MIN_MEMORY {
            return refused(format!(
                "`resources.memory` is {memory}, and Docker engines take {} at least",
                ByteSize::from_bytes(MIN_MEMORY)
            ));
        }
    }
    Ok(())
}

/// What an engine says about a range, with the field that it is about.
pub(super) fn with_field(reason: String) -> String {
    let lower = reason.to_lowercase();
    let field = if lower.starts_with("range of cpus") || lower.contains("nanocpus") || lower.contains("cpu.cfs_quota") {
        "resources.cpus"
    } else if lower.contains("memory limit") || lower.contains("memoryswap") {
        "resources.memory"
    } else {
        return reason;
    };
    format!("`{field}`: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cpus;

    #[test]
    fn limits_that_an_engine_cannot_give_are_refused_by_name() {
        let all = EngineCapabilities { memory: true, swap: true, cpus: true, pids: true };
        let two = EngineCapacity { cpus: Some(2), memory: Some(7_900 * 1024 * 1024) };
        let unknown = EngineCapacity { cpus: None, memory: None };
        let asked = |milli: Option<u32>, mib: Option<u64>| Resources {
            cpus: milli.map(Cpus::from_milli),
            memory: mib.map(|mib| ByteSize::from_bytes(mib * 1024 * 1024)),
            disk: None,
        };
        for (resources, capacity, words) in [
            (asked(None, None), two, None),
            (asked(Some(2000), Some(8192)), two, None),
            (asked(Some(64_000), None), two, Some("`resources.cpus` is 64, and this engine has 2 CPUs")),
            (asked(Some(2001), None), two, Some("has 2 CPUs")),
            (asked(Some(9), None), unknown, Some("0.01 at least")),
            (asked(None, Some(16_384)), two, Some("`resources.memory` is 16 GiB, and this engine has 7900 MiB")),
            (asked(None, Some(5)), unknown, Some("`resources.memory` is 5 MiB, and Docker engines take 6 MiB at least")),
            (asked(Some(64_000), Some(1 << 20)), unknown, None),
        ] {
            let told = validate_limits(&resources, all, capacity).err().map(|error| error.to_string());
            match words {
                None => assert_eq!(told, None),
                Some(words) => assert!(told.as_ref().is_some_and(|told| told.contains(words)), "{told:?}"),
            }
        }
        let none = EngineCapabilities { memory: false, ..all };
        let told = validate_limits(&asked(None, Some(64)), none, two).unwrap_err().to_string();
        assert!(told.contains("cannot limit `resources.memory`"), "{told}");
    }

    #[test]
    fn an_engines_words_about_a_range_come_with_the_field() {
        let cpus = "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available";
        assert_eq!(with_field(cpus.to_owned()), format!("`resources.cpus`: {cpus}"));
        let memory = "Minimum memory limit allowed is 6MB";
        assert_eq!(with_field(memory.to_owned()), format!("`resources.memory`: {memory}"));
        assert_eq!(with_field("no such container".to_owned()), "no such container");
    }
}
