//! Rules and actions.

use http::Request;

use crate::client::{get, get_h2, send};
use crate::harness::{forwarding, free_port, local, serve, target};
use crate::target::Target;

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_spreads_requests_evenly() {
    let targets = [Target::saying("a").await, Target::saying("b").await, Target::saying("c").await];
    let port = free_port();
    let lines: Vec<_> = targets.iter().enumerate().map(|(i, t)| target(&format!("t{i}"), t.port)).collect();
    let _proxy = serve(&forwarding(port, &lines)).await;
    for _ in 0..30 {
        assert_eq!(get(local(port), "/").await.status, 200);
    }
    assert_eq!(targets.each_ref().map(Target::served), [10, 10, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_condition_leads_to_its_action() {
    let port = free_port();
    let fixed = |body: &str| {
        format!("{{fixedResponse: {{statusCode: 200, contentType: text/plain, messageBody: {body}}}}}")
    };
    let rule = |priority: u32, condition: &str, body: &str| {
        format!("{{priority: {priority}, conditions: [{condition}], action: {}}}", fixed(body))
    };
    let rules = [
        rule(1, "path: {values: ['/api/*']}", "path"),
        rule(2, "host: {values: ['*.example.com']}", "host"),
        rule(3, "header: {name: X-Beta, values: ['1']}", "header"),
        rule(4, "method: {values: [DELETE]}", "method"),
        rule(5, "query: {pairs: [{key: v, value: '2'}]}", "query"),
        rule(6, "sourceIp: {values: [127.0.0.0/8]}, path: {values: [/local]}", "never"),
        rule(7, "sourceIp: {values: [127.0.0.0/8]}", "source"),
    ];
    let rules = rules
        .join(", ")
        .replace("}, path:", "}}, {path:")
        .replace("conditions: [", "conditions: [{")
        .replace("], action", "}], action");
    let _proxy = serve(&format!(
        "listeners: {{web: {{port: {port}, rules: [{rules}], defaultAction: {}}}}}",
        fixed("default")
    ))
    .await;
    let to = local(port);
    let request = |method: &str, uri: &str| Request::builder().method(method).uri(uri.to_owned());
    for (request, expected) in [
        (request("GET", "/api/x"), "path"),
        (request("GET", "/").header("host", "shop.example.com"), "host"),
        (request("GET", "/").header("x-beta", "1"), "header"),
        (request("DELETE", "/"), "method"),
        (request("GET", "/?a=1&v=2"), "query"),
        (request("GET", "/local"), "never"),
        (request("GET", "/"), "source"),
    ] {
        assert_eq!(send(to, request.body("").unwrap()).await.text(), expected);
    }
    assert_eq!(get_h2(to, &["/api/x"]).await[0].text(), "path");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_redirected_and_answered_without_a_target() {
    let port = free_port();
    let _proxy = serve(&format!(
        "listeners: {{web: {{port: {port}, rules: [{{priority: 1, conditions: [{{path: {{values: [/old/*]}}}}], action: {{redirect: \
         {{statusCode: 301, protocol: HTTPS, host: '#{{host}}', port: '443', path: '/new/#{{path}}', query: '#{{query}}'}}}}}}], \
         defaultAction: {{fixedResponse: {{statusCode: 404, contentType: text/plain, messageBody: nothing here}}}}}}}}"
    ))
    .await;
    let request = Request::get("/old/a?b=c").header("host", "shop.example.com:8080").body("").unwrap();
    let redirected = send(local(port), request).await;
    assert_eq!(redirected.status, 301);
    assert_eq!(redirected.header("location"), Some("https://shop.example.com/new/old/a?b=c"));
    let fixed = get(local(port), "/").await;
    assert_eq!(
        (fixed.status.as_u16(), fixed.text(), fixed.header("content-type")),
        (404, "nothing here", Some("text/plain"))
    );
    assert_eq!(fixed.header("connection"), Some("keep-alive"));
    let head = send(local(port), Request::head("/").body("").unwrap()).await;
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.text()), (404, Some("12"), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_body_nobody_wants_does_not_cost_its_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let port = free_port();
    let _proxy = serve(&format!(
        "listeners: {{web: {{port: {port}, defaultAction: {{fixedResponse: {{statusCode: 200, contentType: text/plain, messageBody: ok}}}}}}}}"
    ))
    .await;
    let mut socket = tokio::net::TcpStream::connect(local(port)).await.unwrap();
    for _ in 0..3 {
        socket.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            assert_ne!(
                socket.read_buf(&mut answer).await.unwrap(),
                0,
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
}
