//! Which target takes the request, and how it is connected to.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::l4::ext::TcpKeepalive;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::context::{Context, Stage};
use super::{answer, tunnel};
use crate::connect::{KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, KEEPALIVE_TIME};
use crate::group::Endpoint;
use crate::idle::MAX_IDLE;

/// As the other carrier has it, but that nothing limits how long a target may take to acknowledge a request: Pingora cannot
/// say whether that is large.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: KEEPALIVE_TIME,
    interval: KEEPALIVE_INTERVAL,
    count: KEEPALIVE_RETRIES as usize,
    user_timeout: Duration::ZERO,
};

/// Picks the first target. `Ok(false)` when there is none and the client has been told.
pub(super) async fn pick_first(session: &mut Session, ctx: &mut Context) -> Result<bool> {
    if ctx.record.pick_first() {
        watch(ctx);
        return Ok(true);
    }
    answer::no_target(session, ctx).await.map(|()| false)
}

/// The peer of the target that was picked, first or for a retry.
pub(super) fn execute(ctx: &mut Context) -> Result<Box<HttpPeer>> {
    let picked = ctx.record.picked.as_ref().ok_or_else(|| Error::new_in(ErrorType::InternalError))?;
    let endpoint = Arc::clone(picked.endpoint());
    ctx.stage = Stage::Connecting;
    ctx.record.attempt();
    Ok(Box::new(peer(&endpoint, ctx)))
}

/// The request goes to the picked target, and is cut off when its drain's limit is reached.
pub(super) fn watch(ctx: &mut Context) {
    if let Some(picked) = &ctx.record.picked {
        let endpoint = Arc::clone(picked.endpoint());
        ctx.scope.controls.watch_target(Box::pin(async move { endpoint.cell.closing().await }));
    }
}

fn peer(endpoint: &Endpoint, ctx: &Context) -> HttpPeer {
    let (idle, upgrade) = (ctx.record.listening.table.idle_timeout, ctx.upgrade);
    let timeout = ctx.record.connect_timeout();
    let mut peer = HttpPeer::new(endpoint.address, false, String::new());
    peer.group_key = pool_key(endpoint, upgrade);
    if let Some(options) = peer.get_mut_peer_options() {
        options.connection_timeout = Some(timeout);
        options.idle_timeout = Some(MAX_IDLE);
        // The connector of an upgrade sees to that itself.
        options.tcp_keepalive = (!upgrade).then_some(KEEPALIVE);
        options.read_timeout = (!upgrade).then_some(idle);
        options.write_timeout = Some(idle);
        options.custom_l4 = upgrade.then(|| Arc::new(tunnel::Connector { timeout }) as _);
    }
    peer
}

/// Addresses are used again by other pods; a connection is only ever used for the target it was opened to. An upgrade has a
/// connection of its own.
fn pool_key(endpoint: &Endpoint, upgrade: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    (endpoint.id(), endpoint.address.port(), upgrade).hash(&mut hasher);
    hasher.finish()
}
