//! Wrong scenarios and overrides, each with the exact message.

use std::error::Error as _;

use super::*;

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
    for (text, message) in [
        ("[guest]\nmemroy = \"4GiB\"", "a.toml:2: unknown key `guest.memroy`; did you mean `guest.memory`?"),
        (
            "[guest]\npage_size = \"4KiB\"",
            "a.toml:2: unknown key `guest.page_size`; did you mean `guest.page-size`?",
        ),
        ("memory = \"4GiB\"", "a.toml:1: unknown key `memory`; did you mean `guest.memory`?"),
        ("[gest]\n", "a.toml:1: unknown key `gest`; did you mean `guest`?"),
        ("\n\n[[guest.writer]]\n", "a.toml:3: unknown key `guest.writer`; did you mean `guest.writers`?"),
        (
            "[[guest.writers]]\n[[guest.writers]]\nrat = 1",
            "a.toml:3: unknown key `guest.writers.1.rat`; did you mean `guest.writers.1.rate`?",
        ),
        (
            "[host]\nbandwidth = \"1Gbit/s\"",
            "a.toml:2: unknown key `host.bandwidth`; did you mean `link.bandwidth`?",
        ),
        (
            "[run]\nsomething-else-entirely = 1",
            "a.toml:2: unknown key `run.something-else-entirely`; `run` has `seed`, `repeat`, `time-limit`, `fidelity`",
        ),
        (
            "\"guest.memory\" = \"4GiB\"",
            "a.toml:1: unknown key `\"guest.memory\"`; did you mean `guest.memory`?",
        ),
        (
            "[sweep]\n\"link.bandwith\" = [1]",
            "a.toml:2: unknown key `sweep.\"link.bandwith\"`; a swept key is one of a scenario: did you mean \
             `link.bandwidth`?",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn a_wrong_value_is_named_with_its_line_and_what_is_accepted() {
    for (text, message) in [
        (
            "[link]\nbandwidth = 5",
            "a.toml:2: `link.bandwidth`: `5` has no unit; write a bandwidth like `1Gbit/s`, `1Gbit`, \
             `125MB/s` or `64MiB/s` (bit/s or B/s with k to E or Ki to Ei)",
        ),
        (
            "[guest]\nmemory = true",
            "a.toml:2: `guest.memory`: `true` is not accepted; write `4GiB`, `512MiB`, `1.5GB` or `4096B` (KiB to EiB, \
             kB to EB, B)",
        ),
        (
            "[guest]\npage-size = \"8KiB\"",
            "a.toml:2: `guest.page-size`: no page size of 8KiB: accepted is `4KiB`, `2MiB` or `1GiB`",
        ),
        (
            "[guest]\nvcpus = 1.5",
            "a.toml:2: `guest.vcpus`: `1.5` is not accepted; write a whole number from 0 to 4294967295",
        ),
        (
            "[guest]\nvcpus = 0",
            "a.toml:2: `guest.vcpus` cannot be 0: accepted is a whole number from 1 to 16384",
        ),
        (
            "[[guest.writers]]\npattern = \"randm\"",
            "a.toml:2: `guest.writers.0.pattern`: `randm` is not accepted; write `uniform`, `sequential`, `hot-cold`, \
             `zipf`, `measured`, `trace`, `idle`",
        ),
        ("[guest]\nwriters = 3", "a.toml:2: `guest.writers`: `3` is not accepted; write a list of tables"),
        ("[guest]\nwriters = [\n  3\n]", "a.toml:3: `guest.writers.0`: `3` is not accepted; write a table"),
        ("guest = 3", "a.toml:1: `guest`: `3` is not accepted; write a table"),
        (
            "[[guest.writers]]\nphases = [{ rate = 1 }]",
            "a.toml:2: `guest.writers.0.phases.0.length` is missing",
        ),
        (
            "[run]\nseed = -1",
            "a.toml:2: `run.seed`: `-1` is not accepted; write a whole number from 0 to 18446744073709551615",
        ),
        (
            "[run]\nseed = 1979-05-27",
            "a.toml:2: `run.seed`: the date or time `1979-05-27` is not accepted; write a whole number from 0 to \
             18446744073709551615",
        ),
        (
            "[run]\ntime-limit = \"0s\"",
            "a.toml:2: `run.time-limit` cannot be 0s: accepted is more than 0s, at most 8760h",
        ),
        (
            "[run]\nfidelity = \"fluid\"\n[host]\nxbzrle = { cache = \"64MiB\" }",
            "a.toml:4: `host.xbzrle.cache` cannot be set in a fluid simulation: accepted is leaving it out, or \
             `run.fidelity = \"exact\"`",
        ),
        (
            "[guest]\nmemory = \"256MiB\"\n[[guest.writers]]\nrate = 1",
            "a.toml:3: `guest.writers.0.working-set` cannot be 512MiB: accepted is at most 256MiB, which is what \
             guest.memory (256MiB) has from 0B on",
        ),
        ("[policy]\npreset = \"qemu\"", "a.toml:2: unknown preset `qemu`; did you mean `qemu-default`?"),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn what_is_not_toml_is_named_with_its_line() {
    for (text, message) in [
        ("[guest]\nvcpus = 1\nvcpus = 2\n", "a.toml:3: duplicate key: `vcpus`"),
        ("[guest]\nvcpus = \n", "a.toml:2: "),
        ("[guest\n", "a.toml:1: "),
    ] {
        let error = refused(text);
        assert!(error.starts_with(message), "{error}");
        assert!(!error.contains('\n'));
    }
    let bytes = b"[guest]\nvcpus = 1 # \xff";
    assert_eq!(
        Scenario::parse_bytes(bytes, "a.toml", None).unwrap_err().to_string(),
        "a.toml:2: not UTF-8 text; a scenario is a TOML file"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Scenario::load("no/such.toml").unwrap_err();
    assert_eq!(error.to_string(), "cannot read no/such.toml");
    assert!(error.source().is_some());
    assert_eq!(
        Scenario::load(".").unwrap_err().to_string(),
        "cannot read .: it is a directory, accepted is a TOML file"
    );
    assert_eq!(
        Scenario::builtin("demo").unwrap_err().to_string(),
        "no built-in scenario `demo`: there are `default`, `sweep`, `bench`"
    );
}

#[test]
fn a_wrong_override_is_named() {
    for (overrides, message) in [
        (
            vec!["guest.memroy=1GiB"],
            "--set guest.memroy=1GiB: unknown key `guest.memroy`; did you mean `guest.memory`?",
        ),
        (
            vec!["link.bandwidth=5Mb"],
            "--set link.bandwidth=5Mb: `link.bandwidth`: `Mb` in `5Mb` could mean bits or bytes: bytes have a capital \
             `B`, bits are spelled `bit`; write a bandwidth like `1Gbit/s`, `1Gbit`, `125MB/s` or `64MiB/s` (bit/s \
             or B/s with k to E or Ki to Ei)",
        ),
        (
            vec!["guest.writers.5.rate=1"],
            "--set guest.writers.5.rate=1: `guest.writers.5.rate`: there is no position 5: `guest.writers` has 2 \
             entries, so accepted is up to 2 (which adds one)",
        ),
        (
            vec!["link.bandwidth"],
            "--set link.bandwidth: there is no `=`; accepted is KEY=VALUE, such as link.bandwidth=1Gbit/s",
        ),
        (
            vec!["=1"],
            "--set =1: there is no key before `=`; accepted is KEY=VALUE, such as link.bandwidth=1Gbit/s",
        ),
        (
            vec!["run.seed="],
            "--set run.seed=: there is no value behind `=`; accepted is KEY=VALUE, such as link.bandwidth=1Gbit/s",
        ),
        (vec!["guest=4"], "--set guest=4: `guest`: `4` is not accepted; write a table"),
        (vec!["link.outages.0.at=1s"], "--set link.outages.0.at=1s: `link.outages.0.length` is missing"),
        (
            vec!["policy.downtime=1s"],
            "--set policy.downtime=1s: preset `qemu-default` has no parameter `downtime`; did you mean `downtime-limit`? It \
             has `downtime-limit`, `max-bandwidth`, `switchover-bandwidth`",
        ),
        (
            vec!["policy.preset=xen-5", "policy.downtime-limit=1s"],
            "--set policy.downtime-limit=1s: preset `xen-5` has no parameter `downtime-limit`; it has `max-iterations`, \
             `min-dirty`",
        ),
    ] {
        assert_eq!(refused_override(&overrides), message);
    }
    let brackets = refused_override(&["sweep.link.bandwidth=[1Gbit/s]"]);
    assert!(brackets.contains("the value is not TOML"), "{brackets}");
    assert!(brackets.contains("text in it needs quotes"), "{brackets}");
}

#[test]
fn an_override_that_contradicts_the_file_names_the_line_it_contradicts() {
    let mut scenario = parse("[[guest.writers]]\nworking-set = \"1GiB\"");
    assert_eq!(
        scenario.apply_overrides(&["guest.memory=512MiB"]).unwrap_err().to_string(),
        "a.toml:2: `guest.writers.0.working-set` cannot be 1GiB: accepted is at most 512MiB, which is what \
         guest.memory (512MiB) has from 0B on"
    );
}

#[test]
fn a_wrong_sweep_is_named() {
    for (sweep, message) in [
        (
            "\"link.bandwidth\" = [\"1Gbit/s\", \"fast\"]",
            "a.toml:2: sweep value 2: `link.bandwidth`: `fast` does not begin with a number; write a bandwidth like \
             `1Gbit/s`, `1Gbit`, `125MB/s` or `64MiB/s` (bit/s or B/s with k to E or Ki to Ei)",
        ),
        (
            "\"link.bandwidth\" = []",
            "a.toml:2: `sweep.\"link.bandwidth\"`: the list is empty: accepted is a list of values or a range { from = …, \
             to = …, steps = …, scale = \"log\" }",
        ),
        (
            "\"link.bandwidth\" = \"1Gbit/s\"",
            "a.toml:2: `sweep.\"link.bandwidth\"`: `1Gbit/s` is not accepted; write a list of values or a range { from = …, \
             to = …, steps = …, scale = \"log\" }",
        ),
        (
            "\"guest.vcpus\" = { from = 1, too = 4, steps = 4 }",
            "a.toml:2: unknown key `sweep.\"guest.vcpus\".too`; did you mean `sweep.\"guest.vcpus\".to`?",
        ),
        ("\"guest.vcpus\" = { from = 1, steps = 4 }", "a.toml:2: `sweep.\"guest.vcpus\".to` is missing"),
        (
            "\"guest.vcpus\" = { from = 1, to = 4, steps = 9 }",
            "a.toml:2: `sweep.\"guest.vcpus\"`: 9 steps are too many: a value comes twice",
        ),
        (
            "\"guest.vcpus\" = { from = 1, to = 4, steps = 1 }",
            "a.toml:2: `sweep.\"guest.vcpus\".steps`: `1` is not accepted; write a whole number from 2 to 100000",
        ),
        (
            "\"link.round-trip\" = { from = \"0s\", to = \"1s\", steps = 3, scale = \"log\" }",
            "a.toml:2: `sweep.\"link.round-trip\"`: a logarithmic range has no zero: accepted are ends above 0",
        ),
        (
            "\"host.skip-redirtied\" = { from = 0, to = 1, steps = 2 }",
            "a.toml:2: `sweep.\"host.skip-redirtied\".from`: `0` is not accepted; write `true` or `false`",
        ),
        (
            "\"guest.writers.0.rate\" = [1]",
            "a.toml:2: `sweep.\"guest.writers.0.rate\"`: the scenario has no `guest.writers.0`",
        ),
        (
            "\"run.repeat\" = [1]",
            "a.toml:2: `sweep.\"run.repeat\"`: the number of runs is the same in every cell: set run.repeat",
        ),
        (
            "\"guest\" = [1]",
            "a.toml:2: `sweep.\"guest\"`: it is a table or a list; swept keys hold one value each",
        ),
        (
            "\"policy.preset\" = [\"qemu-default\", \"xen-4\"]",
            "a.toml:2: sweep value 2: unknown preset `xen-4`; did you mean `xen-5`?",
        ),
        ("\"guest.vcpus\" = [1]\nguest.vcpus = [2]", "a.toml:3: duplicate key: `guest.vcpus` is swept twice"),
    ] {
        assert_eq!(refused(&format!("[sweep]\n{sweep}")), message);
    }
}

#[test]
fn a_cell_that_cannot_be_is_found_before_anything_runs() {
    let text = "[[guest.writers]]\n[sweep]\n\"guest.memory\" = [\"1GiB\", \"256MiB\"]\n\"run.seed\" = [1, 2]";
    let error = parse(text).grid().unwrap_err();
    assert_eq!(error.to_string(), "cell 2 of the sweep (guest.memory=256MiB, run.seed=1)");
    assert_eq!(
        error.source().unwrap().to_string(),
        "a.toml:1: `guest.writers.0.working-set` cannot be 512MiB: accepted is at most 256MiB, which is what \
         guest.memory (256MiB) has from 0B on"
    );
}

#[test]
fn a_sweep_of_too_many_runs_is_refused() {
    let text = "[run]\nrepeat = 1000000\n[sweep]\n\"run.seed\" = { from = 1, to = 2000, steps = 2000 }\n\
                \"guest.vcpus\" = { from = 1, to = 1000, steps = 1000 }";
    let error = parse(text).grid().map(|grid| grid.cells()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.toml: the sweep makes 2000000000000 runs (cells times run.repeat): accepted are at most 1000000000000"
    );
}

#[test]
fn of_a_grid_too_large_to_check_each_cell_the_edges_are_checked() {
    let text = |memory: &str| {
        format!(
            "[[guest.writers]]\nworking-set = \"512MiB\"\n[sweep]\n\"run.seed\" = {{ from = 1, to = 1000, steps = 1000 \
             }}\n\"guest.memory\" = [\"1GiB\", \"{memory}\", \"2GiB\"]\n\"guest.vcpus\" = {{ from = 1, to = 500, steps = \
             500 }}"
        )
    };
    let grid = parse(&text("3GiB")).grid().map(|grid| grid.cells()).unwrap();
    assert_eq!(grid, 1_500_000);
    // Neither the first nor the last value of its axis.
    let error = parse(&text("256MiB")).grid().map(|grid| grid.cells()).unwrap_err();
    assert_eq!(error.to_string(), "cell 500 of the sweep (run.seed=1, guest.memory=256MiB, guest.vcpus=1)");
}
