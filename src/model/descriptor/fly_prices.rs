//! Fly's prices: a table that is data with a date.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::model::cost::{Cost, PriceSource, Usd};
use crate::model::fly::{DASHBOARD_GUEST, Guest, regions, volume_gb};
use crate::model::spec::BackendSpec;

/// Fly's prices, in dollars for 30 days.
#[derive(Debug, Deserialize)]
struct FlyPrices {
    #[serde(flatten)]
    origin: PriceSource,
    cpu: BTreeMap<String, f64>,
    memory_gb: f64,
    volume_gb: f64,
    region_factor: BTreeMap<String, f64>,
}

/// The table as in the repository; a test ensures that it can be read.
static FLY: LazyLock<Option<FlyPrices>> = LazyLock::new(|| serde_json::from_str(include_str!("../prices_fly.json")).ok());

impl FlyPrices {
    fn machine(&self, guest: Guest, region: &str) -> Option<f64> {
        let cpu = self.cpu.get(guest.cpu_kind.as_str())?;
        let gb = f64::from(guest.memory_mb) / 1024.0;
        Some((cpu * f64::from(guest.cpus) + self.memory_gb * gb) * self.region_factor.get(region)?)
    }

    fn backend(&self, spec: &BackendSpec, region: &str) -> Option<Usd> {
        let mut dollars = self.machine(Guest::from_spec(spec).ok()?, region)?;
        dollars += f64::from(volume_gb(spec).ok()?) * self.volume_gb;
        if spec.dashboard {
            dollars += self.machine(DASHBOARD_GUEST, region)?;
        }
        Some(Usd::from_dollars(dollars))
    }

    /// As long as the region is not decided, the price may be that of the dearest allowed one.
    fn cost(&self, spec: &BackendSpec, region: Option<&str>) -> Option<Cost> {
        let allowed = regions(spec);
        let regions = match region.filter(|region| allowed.contains(region)) {
            Some(region) => vec![region],
            None => allowed,
        };
        let prices: Vec<Usd> = regions.iter().map(|region| self.backend(spec, region)).collect::<Option<_>>()?;
        Some(Cost::Known { usd: *prices.first()?, at_most: *prices.iter().max()? })
    }
}

/// Returns what an app costs: machine, volume and dashboard.
pub(super) fn monthly_cost(spec: &BackendSpec, region: Option<&str>) -> Cost {
    FLY.as_ref().and_then(|prices| prices.cost(spec, region)).unwrap_or(Cost::Unknown)
}

/// Returns what a volume costs that stays when its machine goes.
pub(super) fn volume_cost(spec: &BackendSpec) -> Cost {
    let known = FLY.as_ref().and_then(|prices| Some(Usd::from_dollars(f64::from(volume_gb(spec).ok()?) * prices.volume_gb)));
    known.map_or(Cost::Unknown, |usd| Cost::Known { usd, at_most: usd })
}

/// Names what is billed beside that.
pub(super) fn unpriced_items(spec: &BackendSpec) -> Vec<&'static str> {
    // Fly takes them daily unasked; the first 10 GB of an organisation are free.
    let mut items = vec!["volume snapshots"];
    if spec.origins.api.is_some() || spec.origins.site.is_some() {
        items.push("certificates after the organisation's tenth");
    }
    items
}

/// Returns where the table was read.
pub(super) fn source() -> Option<&'static PriceSource> {
    FLY.as_ref().map(|prices| &prices.origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fly::{CpuKind, REGIONS};
    use crate::model::{ByteSize, Cpus, ProviderKind, monthly_cost, monthly_sum, price_source, unpriced_items};

    fn fly(region: &str, cpus: f64, memory: &str, disk: &str) -> BackendSpec {
        let mut spec = BackendSpec::new(ProviderKind::Fly);
        spec.region = Some(region.to_owned());
        spec.resources.cpus = Cpus::from_cores(cpus);
        spec.resources.memory = ByteSize::parse(memory).ok();
        spec.resources.disk = ByteSize::parse(disk).ok();
        spec
    }

    fn shown(spec: &BackendSpec) -> String {
        monthly_cost(spec, None).at_most().map_or_else(|| "unknown".to_owned(), |usd| usd.to_string())
    }

    /// Fly's documentation of 2025-10-23 gives three shared-1x with 1 GB in sjc as $20.37 and one with 256 MB there as
    /// $2.32; on 2026-06-07 a user paid $2.02 for the latter in ams. A volume of 1 GB is 15 cents.
    #[test]
    fn the_price_table_matches_published_prices() {
        assert_eq!(shown(&fly("sjc", 1.0, "256 MiB", "1 GiB")), "$2.47");
        assert_eq!(shown(&fly("ams", 1.0, "256 MiB", "1 GiB")), "$2.17");
        let three = (0..3).map(|_| fly("sjc", 1.0, "1 GiB", "1 GiB")).collect::<Vec<_>>();
        let (sum, unknown) = monthly_sum(three.iter().map(|spec| monthly_cost(spec, None)));
        assert_eq!((sum.to_string(), unknown), ("$20.82".to_owned(), 0));
        assert_eq!(shown(&fly("iad", 4.0, "1 GiB", "1 GiB")), "$7.93");
    }

    #[test]
    fn a_price_is_that_of_regionsit_is_or_may_come_to_be() {
        let mut spec = fly("iad", 4.0, "1 GiB", "1 GiB");
        spec.settings.fly.fallback_regions = vec!["ewr".to_owned(), "fra".to_owned()];
        let dollars = |spec: &BackendSpec, region| match monthly_cost(spec, region) {
            Cost::Known { usd, at_most } => (usd.to_string(), at_most.to_string()),
            other => panic!("{other:?}"),
        };
        let two = |usd: &str, at_most: &str| (usd.to_owned(), at_most.to_owned());
        // As the facts have it: $7.78 in iad, $8.98 in fra, and 15 cents for the volume anywhere.
        assert_eq!(dollars(&spec, None), two("$7.93", "$9.13"));
        assert_eq!(dollars(&spec, Some("fra")), two("$9.13", "$9.13"));
        assert_eq!(dollars(&spec, Some("ewr")), two("$7.93", "$7.93"));
        // Where it may not be any more, it will not be.
        assert_eq!(dollars(&spec, Some("gru")), two("$7.93", "$9.13"));
        spec.settings.fly.fallback_regions = vec!["xyz".to_owned()];
        assert_eq!(monthly_cost(&spec, None), Cost::Unknown);
        assert_ne!(monthly_cost(&spec, Some("iad")), Cost::Unknown);
    }

    #[test]
    fn a_dashboard_costs_as_well() {
        let mut spec = fly("iad", 4.0, "1 GiB", "1 GiB");
        spec.dashboard = true;
        assert_eq!(shown(&spec), "$13.63");
    }

    #[test]
    fn usage_that_is_billed_separately_is_named() {
        let mut spec = fly("iad", 4.0, "1 GiB", "1 GiB");
        assert_eq!(unpriced_items(&spec), ["traffic", "volume snapshots"]);
        spec.origins.api = Some("https://api.example.com".to_owned());
        assert!(unpriced_items(&spec).contains(&"certificates after the organisation's tenth"));
        assert_eq!(unpriced_items(&BackendSpec::new(ProviderKind::Kubernetes)), ["traffic"]);
    }

    #[test]
    fn an_unknown_price_is_not_zero() {
        assert_eq!(monthly_cost(&fly("xyz", 4.0, "1 GiB", "1 GiB"), None), Cost::Unknown);
        assert_eq!(monthly_cost(&fly("iad", 3.0, "1 GiB", "1 GiB"), None), Cost::Unknown);
        let mut nowhere = fly("iad", 4.0, "1 GiB", "1 GiB");
        nowhere.region = None;
        assert_eq!(monthly_cost(&nowhere, None), Cost::Unknown);
        assert_eq!(monthly_cost(&BackendSpec::new(ProviderKind::Kubernetes), None), Cost::Unknown);
        assert_eq!(monthly_cost(&BackendSpec::new(ProviderKind::Local), None), Cost::Unmetered);
    }

    #[test]
    fn the_table_knows_every_region_and_its_own_date() {
        for region in REGIONS {
            assert_ne!(monthly_cost(&fly(region, 1.0, "1 GiB", "1 GiB"), None), Cost::Unknown, "{region}");
        }
        let table = FLY.as_ref().unwrap();
        assert!([CpuKind::Shared, CpuKind::Performance].into_iter().all(|kind| table.cpu.contains_key(kind.as_str())));
        let source = price_source(ProviderKind::Fly).unwrap();
        assert!(source.as_of.parse::<jiff::civil::Date>().is_ok());
    }

    #[test]
    fn amounts_are_shown_to_the_cent() {
        assert_eq!(Usd::from_dollars(7.925).to_string(), "$7.93");
        assert_eq!(Usd::from_dollars(1234.5).to_string(), "$1234.50");
        assert_eq!(serde_json::to_string(&Usd::from_dollars(7.929_999)).unwrap(), "7.93");
    }
}
