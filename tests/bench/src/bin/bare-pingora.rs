//! Pingora's own proxy with nothing added: what one gets from its guide, on one thread, with the same allocator, compiler
//! settings and targets as Evenkeel's.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LISTEN: &str = "127.0.0.1:25000";
const WEB: [&str; 2] = ["127.0.0.1:20001", "127.0.0.1:20002"];
const ECHO: &str = "127.0.0.1:20003";

struct Bare {
    turn: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let [one, two] = WEB;
        let address = if session.req_header().uri.path() == "/echo" {
            ECHO
        } else if self.turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            one
        } else {
            two
        };
        Ok(Box::new(HttpPeer::new(address, false, String::new())))
    }
}

fn main() {
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut proxy = http_proxy(&server.configuration, Bare { turn: AtomicUsize::new(0) });
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    proxy.server_options = Some(options);
    let mut service = Service::new("bare".into(), proxy);
    service.add_tcp(LISTEN);
    server.add_service(service);
    server.run_forever();
}
