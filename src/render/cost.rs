//! What a plan costs, in words.

use crate::model::Usd;
use crate::plan::{CostSum, PlanCost, Price};

/// The cost of a plan for people: the sum, then every backend whose cost changes.
pub(super) fn lines(cost: &PlanCost) -> Vec<String> {
    let mut lines = vec![format!("cost a month: {} → {} ({})", sum(&cost.before), sum(&cost.after), basis(cost))];
    let width = cost.backends.iter().map(|backend| backend.backend.as_str().len()).max().unwrap_or(0);
    for backend in cost.backends.iter().filter(|backend| backend.before != backend.after) {
        let name = backend.backend.as_str();
        lines.push(format!("  {name:width$}  {} → {}", price(backend.before), price(backend.after)));
    }
    lines
}

/// One price; what is not there costs nothing and has none.
pub(super) fn price(price: Option<Price>) -> String {
    match price {
        None => "-".to_owned(),
        Some(Price { usd: Some(usd), at_most_usd }) => amount(usd, at_most_usd),
        Some(Price { usd: None, .. }) => "unknown".to_owned(),
    }
}

fn amount(usd: Usd, at_most: Option<Usd>) -> String {
    match at_most {
        Some(most) => format!("{usd} to {most} by region"),
        None => usd.to_string(),
    }
}

/// A sum, with what it leaves out.
pub(super) fn sum(sum: &CostSum) -> String {
    let amount = amount(sum.usd, sum.at_most_usd);
    if sum.unknown.is_empty() {
        return amount;
    }
    let names: Vec<String> = sum.unknown.iter().map(|name| format!("`{name}`")).collect();
    format!("{amount} and an unknown price for {}", names.join(", "))
}

/// What the amounts rest on.
pub(super) fn basis(cost: &PlanCost) -> String {
    let prices: Vec<String> =
        cost.prices.iter().map(|source| format!("{} prices of {}", source.provider, source.as_of)).collect();
    let mut parts = prices;
    if !cost.not_counted.is_empty() {
        parts.push(format!("without {}", cost.not_counted.join(", ")));
    }
    parts.join("; ")
}
