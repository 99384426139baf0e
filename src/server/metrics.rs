//! Figures for Prometheus: requests, refused tokens, operations, leases, the store.

use std::time::Duration;

use axum::http::Method;
use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::fleet_metrics::FleetMetrics;
use crate::api::ControlError;
use crate::host::{Host, ProjectSample};

/// The upper ends of the buckets of a request's time, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The figures of one server.
pub(super) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    refused: IntCounterVec,
    operations: IntGaugeVec,
    leases: IntGauge,
    store_up: IntGauge,
    store_bytes: Gauge,
    fleet: FleetMetrics,
}

impl Metrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let fleet = FleetMetrics::register(&registry)?;
        let build = IntGaugeVec::new(Opts::new("convexinfra_build_info", "The build of this server; always 1."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        let metrics = Self {
            registry,
            fleet,
            requests: IntCounterVec::new(
                Opts::new("convexinfra_requests_total", "Requests that were answered."),
                &["method", "route", "status"],
            )?,
            durations: HistogramVec::new(
                HistogramOpts::new("convexinfra_request_seconds", "From the head of a request to the head of its answer.")
                    .buckets(BUCKETS.to_vec()),
                &["method", "route"],
            )?,
            refused: IntCounterVec::new(
                Opts::new("convexinfra_tokens_refused_total", "Requests whose token was missing or allowed too little."),
                &["code"],
            )?,
            operations: IntGaugeVec::new(
                Opts::new("convexinfra_operations", "Operations by state: running now, done and failed since the start."),
                &["state"],
            )?,
            leases: IntGauge::new("convexinfra_leases", "Projects with a held lease.")?,
            store_up: IntGauge::new("convexinfra_store_up", "Whether the store answers: 1 or 0.")?,
            store_bytes: Gauge::new("convexinfra_store_bytes", "The size of the store on the disk.")?,
        };
        let Self { registry, requests, durations, refused, operations, leases, store_up, store_bytes, fleet: _ } = &metrics;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(operations.clone()))?;
        registry.register(Box::new(leases.clone()))?;
        registry.register(Box::new(store_up.clone()))?;
        registry.register(Box::new(store_bytes.clone()))?;
        Ok(metrics)
    }

    /// A request was answered.
    pub(super) fn record_request(&self, method: &Method, route: &str, status: u16, took: Duration) {
        // Clients can make methods up, and each would be a series of its own.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE") => known,
            _ => "other",
        };
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.durations.with_label_values(&[method, route]).observe(took.as_secs_f64());
    }

    /// A token was refused.
    pub(super) fn record_refusal(&self, error: &ControlError) {
        if let ControlError::NotAuthorised(finding) = error {
            self.refused.with_label_values(&[finding.code.as_str()]).inc();
        }
    }

    /// Returns all figures as they are now.
    pub(super) fn render(&self, host: &Host, samples: Option<&[ProjectSample]>) -> String {
        if let Some(samples) = samples {
            self.fleet.set(samples);
        }
        let activity = host.activity();
        for (state, count) in [("running", activity.running), ("done", activity.done), ("failed", activity.failed)] {
            self.operations.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let leases = host.leases();
        self.store_up.set(i64::from(leases.is_ok()));
        if let Ok(leases) = leases {
            self.leases.set(i64::try_from(leases).unwrap_or(i64::MAX));
        }
        // Bytes below 2^53 are exact.
        #[allow(clippy::cast_precision_loss)]
        self.store_bytes.set(host.store_bytes() as f64);
        let mut text = Vec::new();
        // Text into memory is always written.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}
