//! Who is next: an immutable lineup of the targets that may be picked, and one algorithm over it.
//!
//! In the lineup are the healthy targets that do not drain. Where there is none, it fails open: then the unhealthy ones
//! are in it (not those that drain, nor those never checked), because a check may be wrong and no answer surely is.

pub mod least_request;
pub mod round_robin;

use std::sync::Arc;

use evenkeel_proxy_api::report::Health;
use evenkeel_proxy_api::snapshot::Algorithm;

use crate::group::Endpoint;
use least_request::LeastRequest;
use round_robin::RoundRobin;

/// The targets that may be picked right now.
#[derive(Debug, Default)]
pub struct Lineup {
    endpoints: Box<[Arc<Endpoint>]>,
    balancer: Balancer,
    fails_open: bool,
}

#[derive(Debug)]
enum Balancer {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
}

impl Default for Balancer {
    fn default() -> Self {
        Self::RoundRobin(RoundRobin::default())
    }
}

impl Lineup {
    /// The lineup after a change, where it differs: turns go on where they stand.
    pub(crate) fn next(&self, algorithm: Algorithm, endpoints: &[Arc<Endpoint>]) -> Option<Self> {
        let (endpoints, fails_open) = eligible(endpoints);
        let same_algorithm = self.algorithm() == algorithm;
        if same_algorithm && fails_open == self.fails_open && same(&self.endpoints, &endpoints) {
            return None;
        }
        let balancer = match algorithm {
            Algorithm::RoundRobin => Balancer::RoundRobin(self.next_round(&endpoints)),
            Algorithm::LeastRequest => Balancer::LeastRequest(LeastRequest::default()),
        };
        Some(Self { endpoints: endpoints.into(), balancer, fails_open })
    }

    fn next_round(&self, endpoints: &[Arc<Endpoint>]) -> RoundRobin {
        let weights: Vec<u16> = endpoints.iter().map(|endpoint| endpoint.target.weight).collect();
        let Balancer::RoundRobin(round) = &self.balancer else { return RoundRobin::new(&weights, 0) };
        let Some(next) = round.peek().and_then(|index| self.endpoints.get(index)) else {
            return RoundRobin::new(&weights, 0);
        };
        let place = endpoints.partition_point(|endpoint| endpoint.target.id < next.target.id);
        RoundRobin::new(&weights, place)
    }

    fn algorithm(&self) -> Algorithm {
        match self.balancer {
            Balancer::RoundRobin(_) => Algorithm::RoundRobin,
            Balancer::LeastRequest(_) => Algorithm::LeastRequest,
        }
    }

    /// Chooses a target that is not to be skipped; none if all are.
    #[inline]
    pub(crate) fn choose(&self, skip: impl Fn(&Endpoint) -> bool) -> Option<&Arc<Endpoint>> {
        let skip = |index: usize| self.endpoints.get(index).is_none_or(|endpoint| skip(endpoint));
        let index = match &self.balancer {
            Balancer::RoundRobin(round) => round.choose(skip),
            Balancer::LeastRequest(least) => least.choose(self.endpoints.len(), skip, |index| {
                self.endpoints
                    .get(index)
                    .map_or((u32::MAX, 1), |endpoint| (endpoint.cell.in_flight(), endpoint.target.weight))
            }),
        };
        index.and_then(|index| self.endpoints.get(index))
    }

    /// Those that may be picked.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Whether nobody is healthy and the unhealthy are picked therefore.
    pub fn fails_open(&self) -> bool {
        self.fails_open
    }
}

/// Those that may be picked, and whether that is failing open.
fn eligible(endpoints: &[Arc<Endpoint>]) -> (Vec<Arc<Endpoint>>, bool) {
    let with = |health| {
        let fits = move |endpoint: &&Arc<Endpoint>| {
            endpoint.target.drain.is_none() && endpoint.cell.health() == health
        };
        endpoints.iter().filter(fits).cloned().collect::<Vec<_>>()
    };
    let healthy = with(Health::Healthy);
    if !healthy.is_empty() {
        return (healthy, false);
    }
    let unhealthy = with(Health::Unhealthy);
    let fails_open = !unhealthy.is_empty();
    (unhealthy, fails_open)
}

fn same(current: &[Arc<Endpoint>], next: &[Arc<Endpoint>]) -> bool {
    current.len() == next.len() && current.iter().zip(next).all(|(a, b)| Arc::ptr_eq(a, b))
}
