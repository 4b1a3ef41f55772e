//! QEMU's replies.

use super::*;

/// As QEMU 9.2 tells them.
const PARAMETERS: &str = r#"{"return": {"cpu-throttle-tailslow": false, "xbzrle-cache-size": 67108864,
"cpu-throttle-initial": 30, "announce-max": 550, "avail-switchover-bandwidth": 0, "throttle-trigger-threshold": 40,
"downtime-limit": 250, "max-bandwidth": 134217728, "max-cpu-throttle": 90, "cpu-throttle-increment": 5,
"vcpu-dirty-limit": 2, "x-vcpu-dirty-limit-period": 500, "mode": "normal", "tls-creds": ""}, "id": "libvirt-411"}"#;

fn capabilities(on: &[&str]) -> String {
    let entry = |name| format!("{{\"capability\": \"{name}\", \"state\": {}}}", on.contains(&name));
    let all = ["xbzrle", "auto-converge", "dirty-limit", "postcopy-ram", "events"].map(entry);
    format!("{{\"return\": [{}]}}", all.join(", "))
}

#[test]
fn without_capabilities_it_is_the_rule_alone_and_that_is_said() {
    let imported = of("q.json", PARAMETERS).unwrap();
    assert_eq!(
        policy(&imported),
        [
            "qemu-default",
            "downtime-limit = 250ms",
            "max-bandwidth = 128MiB/s",
            "switchover-bandwidth = measured"
        ]
    );
    assert!(imported.notes[0].starts_with("Nothing is said about capabilities"), "{:?}", imported.notes);
    let rest = imported.notes.last().unwrap();
    assert!(rest.contains("`cpu-throttle-initial`") && rest.contains("`tls-creds`"), "{rest}");
}

#[test]
fn capabilities_decide_which_preset_it_is_in_the_same_file_or_in_another() {
    let throttled = all(&[PARAMETERS, &capabilities(&["auto-converge", "postcopy-ram", "xbzrle"])]).unwrap();
    assert_eq!(
        policy(&throttled),
        [
            "qemu-auto-converge",
            "downtime-limit = 250ms",
            "max-bandwidth = 128MiB/s",
            "max-throttle = 90%",
            "switchover-bandwidth = measured",
            "tailslow = off",
            "throttle-increment = 5%",
            "throttle-initial = 30%",
            "throttle-trigger-threshold = 40%",
        ]
    );
    let notes = throttled.notes.join("\n");
    for word in ["postcopy-ram is on, too", "`xbzrle` is on", "since QEMU 9.2"] {
        assert!(notes.contains(word), "no `{word}` in\n{notes}");
    }
    let session = format!(
        "{{\"QMP\": {{}}}}\n{}\n{{\"event\": \"STOP\"}}\n{PARAMETERS}",
        capabilities(&["dirty-limit"])
    );
    assert_eq!(
        policy(&of("session.json", &session).unwrap()),
        [
            "qemu-dirty-limit",
            "downtime-limit = 250ms",
            "max-bandwidth = 128MiB/s",
            "switchover-bandwidth = measured",
            "throttle-trigger-threshold = 40%",
            "vcpu-dirty-limit = 2MiB/s",
            "vcpu-dirty-limit-period = 500ms",
        ]
    );
    let fetched =
        all(&[&capabilities(&["postcopy-ram"]), "{\"max-bandwidth\": 0, \"max-postcopy-bandwidth\": 1}"])
            .unwrap();
    assert_eq!(policy(&fetched), ["qemu-postcopy", "max-bandwidth = unlimited"]);
    assert!(fetched.notes.iter().any(|note| note.contains("`postcopy-after`")));
    assert!(fetched.notes.iter().any(|note| note.contains("after the handover nothing is capped")));
    assert_eq!(
        of("q", "{\"downtime-limit\": 1, \"auto-converge\": true}").unwrap().preset,
        "qemu-auto-converge"
    );
}

#[test]
fn a_value_that_qemu_would_not_tell_is_refused_by_name() {
    for (text, message) in [
        (
            "{\"downtime-limit\": -1}",
            "q.json: `downtime-limit`: `-1` is not accepted; write a whole number of milliseconds, from 0 to 2000000",
        ),
        (
            "{\"downtime-limit\": \"300ms\"}",
            "q.json: `downtime-limit`: the text `300ms` is not accepted; write a whole number of milliseconds, from 0 to \
             2000000",
        ),
        (
            "{\"max-bandwidth\": 1.5}",
            "q.json: `max-bandwidth`: `1.5` is not accepted; write a whole number of bytes a second (0: none is set), 0 or \
             more",
        ),
        (
            "{\"auto-converge\": true, \"cpu-throttle-initial\": 0}",
            "q.json: `cpu-throttle-initial`: `0` is not accepted; write a whole number of per cent, from 1 to 99",
        ),
        (
            "[{\"capability\": \"auto-converge\"}]",
            "q.json: `{\"capability\":\"auto-converge\"}` is no capability; write {\"capability\": \"auto-converge\", \
             \"state\": true}",
        ),
        (
            "{\"auto-converge\": true, \"dirty-limit\": true, \"downtime-limit\": 1}",
            "q.json: `dirty-limit`: `true` beside `auto-converge` is not accepted; write one of them: QEMU takes no two",
        ),
        (
            "{\"return\": 5}",
            "q.json: `5` is no reply; accepted is an object of parameters or a list of capabilities",
        ),
        (
            "{\"return\": {}}",
            "q.json: there is no reply in it; accepted is what query-migrate-parameters or query-migrate-capabilities \
             gives",
        ),
        (
            "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no \\\"return\\\"\"}}",
            "q.json: QEMU refused: no \"return\"",
        ),
    ] {
        let files = [("q.json".to_owned(), text.to_owned())];
        assert_eq!(parse(&files, Some(Origin::Qemu)).unwrap_err().to_string(), message);
    }
    let message = of("q.json", "{\n\"downtime-limit\": 300,\n}").unwrap_err().to_string();
    assert!(message.starts_with("q.json:3: not JSON: trailing comma"), "{message}");
}
