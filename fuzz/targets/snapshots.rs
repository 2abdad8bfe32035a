//! What an operator, or a file, can say: it is taken or refused, and what is taken says the same when it is sent on.
#![no_main]

use evenkeel_proxy::table::{Groups, Table};
use evenkeel_proxy_api::convert;
use evenkeel_proxy_api::snapshot::Snapshot;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if let Ok(snapshot) = serde_saphyr::from_str::<Snapshot>(text) {
        let _ = Table::build(&snapshot, &Groups::new(), &Table::default());
    }
    convert::again(bytes).expect("it says the same");
});
