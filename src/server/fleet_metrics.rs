//! Figures about what runs: backends by project and provider, quotas, expiry.

use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use crate::host::ProjectSample;
use crate::model::{ByteSize, Cpus, Usage};

/// The gauges about projects and their backends.
pub(super) struct FleetMetrics {
    backends: IntGaugeVec,
    backends_up: IntGaugeVec,
    expires_at: IntGaugeVec,
    quota_used: GaugeVec,
    quota_limit: GaugeVec,
}

impl FleetMetrics {
    /// Makes the gauges and registers them.
    ///
    /// # Errors
    /// Two have one name, which would be a bug.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_provider = ["project", "provider"];
        let by_resource = ["project", "resource"];
        let metrics = Self {
            backends: IntGaugeVec::new(Opts::new("convexinfra_backends", "Backends that are recorded."), &by_provider)?,
            backends_up: IntGaugeVec::new(
                Opts::new("convexinfra_backends_up", "Backends that were running when they were last observed."),
                &by_provider,
            )?,
            expires_at: IntGaugeVec::new(
                Opts::new("convexinfra_backend_expires_at_seconds", "When a backend with a ttl may be removed, as Unix time."),
                &["project", "backend"],
            )?,
            quota_used: GaugeVec::new(
                Opts::new("convexinfra_quota_used", "What the backends of a project ask for: cores, and bytes."),
                &by_resource,
            )?,
            quota_limit: GaugeVec::new(
                Opts::new("convexinfra_quota_limit", "The quota of a project, where it has one: cores, and bytes."),
                &by_resource,
            )?,
        };
        let Self { backends, backends_up, expires_at, quota_used, quota_limit } = &metrics;
        registry.register(Box::new(backends.clone()))?;
        registry.register(Box::new(backends_up.clone()))?;
        registry.register(Box::new(expires_at.clone()))?;
        registry.register(Box::new(quota_used.clone()))?;
        registry.register(Box::new(quota_limit.clone()))?;
        Ok(metrics)
    }

    /// Sets every gauge to what was sampled; what is gone is gone from them too.
    pub(super) fn set(&self, samples: &[ProjectSample]) {
        self.backends.reset();
        self.backends_up.reset();
        self.expires_at.reset();
        self.quota_used.reset();
        self.quota_limit.reset();
        for sample in samples {
            let project = sample.project.as_str();
            for backend in &sample.backends {
                let labels = [project, backend.provider.as_str()];
                self.backends.with_label_values(&labels).inc();
                self.backends_up.with_label_values(&labels).add(i64::from(backend.is_up));
                if let Some(expires_at) = backend.expires_at {
                    self.expires_at.with_label_values(&[project, backend.name.as_str()]).set(expires_at.0 / 1000);
                }
            }
            self.set_quota(sample);
        }
    }

    fn set_quota(&self, sample: &ProjectSample) {
        let Usage { backends, cpus, memory, disk } = sample.usage;
        let quota = &sample.quota;
        let rows = [
            ("backends", f64::from(backends), quota.backends.map(f64::from)),
            ("cpus", cpus.cores(), quota.cpus.map(Cpus::cores)),
            ("memory_bytes", bytes(memory), quota.memory.map(bytes)),
            ("disk_bytes", bytes(disk), quota.disk.map(bytes)),
        ];
        for (resource, used, limit) in rows {
            let labels = [sample.project.as_str(), resource];
            self.quota_used.with_label_values(&labels).set(used);
            if let Some(limit) = limit {
                self.quota_limit.with_label_values(&labels).set(limit);
            }
        }
    }
}

/// Returns bytes below 2^53 are exact.
#[allow(clippy::cast_precision_loss)]
fn bytes(size: ByteSize) -> f64 {
    size.bytes() as f64
}
