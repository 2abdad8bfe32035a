//! Snapshots too large to be written by hand.

use std::fmt::Write as _;

/// A listener with a rule for each of these groups, and behind each so many targets: as many loopback addresses, at all of
/// which the same Nginx listens. Other paths go to `web`, as they do in `evenkeel.yaml`: its targets are known to be healthy.
pub fn with_rules(port: u16, rules: u32, targets_each: u32) -> String {
    let mut text = format!("listeners:\n  web:\n    port: {port}\n    idleTimeout: 1h\n    rules:\n");
    let mut groups = String::from(
        "targetGroups:\n  web:\n    targets:\n    - {id: one, address: 127.0.0.1, port: 20001}\n    \
         - {id: two, address: 127.0.0.1, port: 20002}\n",
    );
    for rule in 0..rules {
        let _ = writeln!(
            text,
            "    - {{priority: {}, conditions: [{{path: {{values: [/service-{rule}/*]}}}}], \
             action: {{forward: {{targetGroups: [{{name: g{rule}}}]}}}}}}",
            rule + 1
        );
        let _ = writeln!(groups, "  g{rule}:\n    targets:");
        for target in 0..targets_each {
            let (high, low) = (rule / 250 + 1, rule % 250 + 1);
            let _ = writeln!(
                groups,
                "    - {{id: g{rule}-{target:02}, address: 127.{high}.{low}.{}, port: 20001}}",
                target + 1
            );
        }
    }
    text + "    defaultAction: {forward: {targetGroups: [{name: web}]}}\n" + &groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_target_has_an_address_of_its_own() {
        let text = with_rules(80, 1_000, 10);
        let snapshot: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(snapshot["listeners"]["web"]["rules"].as_array().unwrap().len(), 1_000);
        let groups = snapshot["targetGroups"].as_object().unwrap();
        let targets = groups.values().flat_map(|group| group["targets"].as_array().unwrap());
        let addresses: BTreeSet<&str> = targets.map(|target| target["address"].as_str().unwrap()).collect();
        assert_eq!(addresses.len(), 10_000 + 1, "those of the rules, and that of `web`");
    }
}
