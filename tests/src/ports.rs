//! The node ports that reach the cluster from here, each for one test at a time.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::conditions::eventually;
use crate::traffic::{self, Load, Pace, Recorder, http};

/// 30080 is the demo's.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30081..=30089;

static POOL: OnceCell<Pool> = OnceCell::const_new();

/// A node port.
#[derive(Clone, Debug)]
pub struct NodePort {
    /// Its number.
    pub number: u16,
    /// Where it is reached.
    pub host: String,
}

impl NodePort {
    /// The address to connect to.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.number)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Begins to ask for `/` by HTTP/1.1.
    pub fn load(&self, pace: Pace) -> Load {
        Load::start(&traffic::Client::http1(self.url("/")), pace, Recorder::default())
    }

    /// Waits for any answer by HTTP: a load balancer is ready a moment before the last node has heard of its Service.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn until_answering(&self) -> Result<()> {
        eventually("any answer", async || http::get(&self.url("/")).await.map(drop)).await
    }
}

/// The right to use a node port, given back when dropped.
pub(crate) struct Lease {
    pool: &'static Pool,
    number: u16,
    _permit: SemaphorePermit<'static>,
}

struct Pool {
    free: Mutex<BTreeSet<u16>>,
    permits: Semaphore,
}

impl Lease {
    /// Waits while all ports are taken.
    pub(crate) async fn take(client: &Client) -> Result<Self> {
        let pool = POOL.get_or_try_init(|| Pool::of_what_is_free(client)).await?;
        let permit = pool.permits.acquire().await?;
        let number = pool.free().pop_first().ok_or_else(|| anyhow!("more permits than ports"))?;
        Ok(Self { pool, number, _permit: permit })
    }

    /// The port.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.free().insert(self.number); // before the permit, which is dropped after this
    }
}

impl Pool {
    async fn of_what_is_free(client: &Client) -> Result<Self> {
        let services: Api<Service> = Api::all(client.clone());
        let taken: BTreeSet<u16> = services
            .list(&ListParams::default())
            .await?
            .into_iter()
            .filter_map(|service| service.spec?.ports)
            .flatten()
            .filter_map(|port| u16::try_from(port.node_port?).ok())
            .collect();
        let free: BTreeSet<u16> = NODE_PORTS.filter(|port| !taken.contains(port)).collect();
        Ok(Self { permits: Semaphore::new(free.len()), free: Mutex::new(free) })
    }

    fn free(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
