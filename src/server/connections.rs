//! The table of open connections: caps, and which connection is closed to make room for another.
//!
//! Where a cap is reached, the connection that has been idle for longest is closed rather than the new one refused, so
//! that connections that are held open for nothing never keep a client out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::rate_limits::client_network;

/// The numbers of connections that may be open.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionCaps {
    /// From everywhere together.
    pub(super) total: usize,
    /// From one address; none behind a proxy, which has one address for all clients.
    pub(super) per_address: Option<usize>,
    /// Out of the total, for this machine alone: health checks and repairs.
    pub(super) loopback_reserve: usize,
}

/// The requests of one connection that are in flight, and since when there is none.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    /// In milliseconds after `opened`.
    idle_since: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        let (in_flight, requests, idle_since) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { opened: Instant::now(), in_flight, requests, idle_since }
    }

    /// Counts a request until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Returns for how long no request has been in flight; none while one is.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        let since = Duration::from_millis(self.idle_since.load(Ordering::Acquire));
        (self.in_flight.load(Ordering::Acquire) == 0).then(|| self.age().saturating_sub(since))
    }

    /// Says whether a request has ever arrived.
    pub(super) fn has_begun(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Returns the time since the connection was opened.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.age().as_millis()).unwrap_or(u64::MAX);
        self.0.idle_since.store(now, Ordering::Release);
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Entry {
    address: IpAddr,
    activity: Arc<Activity>,
    evicted: Arc<Notify>,
}

/// The open connections of one listener.
pub(super) struct ConnectionTable {
    caps: ConnectionCaps,
    entries: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
    open: watch::Sender<usize>,
}

/// The place of one connection in the table, until it is dropped.
pub(super) struct ConnectionSlot {
    table: Arc<ConnectionTable>,
    number: u64,
    pub(super) activity: Arc<Activity>,
    /// Notified when the connection has to make room for another.
    pub(super) evicted: Arc<Notify>,
}

impl ConnectionTable {
    pub(super) fn new(caps: ConnectionCaps) -> Arc<Self> {
        Arc::new(Self { caps, entries: Mutex::default(), next: AtomicU64::new(0), open: watch::Sender::new(0) })
    }

    /// Takes a connection in, and evicts an idle one where a cap is reached; none where every other is in use.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionSlot> {
        let is_loopback = address.to_canonical().is_loopback();
        let address = client_network(address);
        let mut entries = self.lock();
        if let Some(cap) = self.caps.per_address {
            let count = entries.values().filter(|entry| entry.address == address).count();
            if count >= cap && !evict(&mut entries, Some(address)) {
                return None;
            }
        }
        let cap = self.caps.total.saturating_sub(if is_loopback { 0 } else { self.caps.loopback_reserve });
        if entries.len() >= cap && !evict(&mut entries, None) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (activity, evicted) = (Arc::new(Activity::new()), Arc::new(Notify::new()));
        entries.insert(number, Entry { address, activity: Arc::clone(&activity), evicted: Arc::clone(&evicted) });
        self.open.send_modify(|open| *open += 1);
        Some(ConnectionSlot { table: Arc::clone(self), number, activity, evicted })
    }

    /// Waits until every connection is closed.
    pub(super) async fn wait_until_empty(&self) {
        // The sender lives as long as the table.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.table.lock().remove(&self.number);
        self.table.open.send_modify(|open| *open -= 1);
    }
}

/// Evicts the connection that has been idle for longest, of one address or of all. Says whether there was one.
fn evict(entries: &mut HashMap<u64, Entry>, of: Option<IpAddr>) -> bool {
    let idle = entries
        .iter()
        .filter(|(_, entry)| of.is_none_or(|address| entry.address == address))
        .filter_map(|(number, entry)| Some((entry.activity.idle_for()?, *number)))
        .max();
    let Some(entry) = idle.and_then(|(_, number)| entries.remove(&number)) else { return false };
    entry.evicted.notify_one();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: ConnectionCaps = ConnectionCaps { total: 4, per_address: Some(2), loopback_reserve: 1 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
        let table = ConnectionTable::new(CAPS);
        let client = address("192.0.2.1");
        let (first, second) = (table.admit(client).unwrap(), table.admit(client).unwrap());
        let busy = first.activity.begin();
        let third = table.admit(client).expect("the second one is idle");
        second.evicted.notified().await;
        drop(second);
        let _also_busy = third.activity.begin();
        assert!(table.admit(client).is_none(), "both are in use");
        drop(busy);
        assert!(table.admit(client).is_some());
    }

    #[test]
    fn this_machine_has_a_reserve_and_a_network_counts_as_one_client() {
        let table = ConnectionTable::new(CAPS);
        let slots: Vec<_> = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|text| table.admit(address(text)).unwrap()).into();
        let _busy: Vec<_> = slots.iter().map(|slot| slot.activity.begin()).collect();
        assert!(table.admit(address("192.0.2.4")).is_none());
        assert!(table.admit(address("127.0.0.1")).is_some());
        assert_eq!(client_network(address("2001:db8::1")), client_network(address("2001:db8::ffff:1")));
        assert_ne!(client_network(address("2001:db8::1")), client_network(address("2001:db8:0:1::1")));
        assert_eq!(client_network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[tokio::test]
    async fn closed_connections_leave_the_table() {
        let table = ConnectionTable::new(CAPS);
        let slot = table.admit(address("192.0.2.1")).unwrap();
        drop(slot.activity.begin());
        assert!(slot.activity.has_begun() && slot.activity.idle_for().is_some());
        drop(slot);
        table.wait_until_empty().await;
        assert!(table.lock().is_empty());
    }
}
