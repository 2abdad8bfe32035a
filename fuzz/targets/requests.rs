//! What a client can send: whatever passes is read alike by hyper and Pingora.
#![no_main]

use evenkeel_proxy::http1::readers;

libfuzzer_sys::fuzz_target!(|recipe: &[u8]| {
    readers::requests(&readers::prepare(recipe)).expect("everybody reads the same");
});
