//! A target that does as planned.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::plan::{Break, Framing, Plan};
use super::wire::{Delimited, Inbox, reset, say};
use super::{REQUEST, Tally};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    GoOn,
    End,
    Reset,
}

/// Serves a connection.
pub async fn serve(socket: TcpStream, tally: Arc<Tally>) {
    let _ = socket.set_nodelay(true);
    let (reader, mut writer) = socket.into_split();
    let mut inbox = Inbox::new(reader);
    while let Ok(head) = inbox.head().await {
        let path = head.split(' ').nth(1).unwrap_or_else(|| panic!("no path in {head:?}"));
        let after = match path.trim_start_matches('/').parse() {
            Ok(seed) => exchange(&Plan::of(seed), &head, &mut inbox, &mut writer, &tally).await,
            // A health check.
            Err(_) => answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &[], &mut writer).await,
        };
        match after {
            After::GoOn => {}
            After::End => return,
            After::Reset => return reset(writer),
        }
    }
}

async fn exchange(
    plan: &Plan,
    head: &str,
    inbox: &mut Inbox,
    writer: &mut OwnedWriteHalf,
    tally: &Tally,
) -> After {
    let delimited = Delimited::by(head, Delimited::Length(0));
    let most = if let Break::Hearing(most) = plan.answer.breaks { most } else { usize::MAX };
    let hearing = async {
        let (body, whole) = inbox.body(delimited, most).await;
        let cut_is_expected = plan.client_breaks() || plan.target_breaks() || plan.eager;
        tally.arrived(REQUEST, plan, (&body, whole), cut_is_expected);
        if whole && !matches!(plan.answer.breaks, Break::Hearing(_)) { After::GoOn } else { After::Reset }
    };
    if plan.eager {
        let (heard, said) = tokio::join!(hearing, as_planned(plan, writer));
        return if said == After::GoOn { heard } else { said };
    }
    match hearing.await {
        After::GoOn => as_planned(plan, writer).await,
        other => other,
    }
}

async fn as_planned(plan: &Plan, writer: &mut OwnedWriteHalf) -> After {
    let head = format!("HTTP/1.1 200 OK\r\nX-Seed: {}\r\n", plan.seed);
    let (bytes, cuts) = plan.answer.on_the_wire(&head);
    if let Break::Saying(most) = plan.answer.breaks {
        answer(&bytes[..most], &cuts, writer).await;
        return After::Reset;
    }
    match answer(&bytes, &cuts, writer).await {
        After::GoOn if plan.answer.framing == Framing::UntilEnd => After::End,
        after => after,
    }
}

async fn answer(bytes: &[u8], cuts: &[usize], writer: &mut OwnedWriteHalf) -> After {
    if say(writer, bytes, cuts).await { After::GoOn } else { After::Reset }
}
