use super::*;
use crate::outcome::Objective;
use crate::scenario::Scenario;

/// Workloads that take a millisecond each: 16 MiB, one that converges and one that never does.
fn workloads() -> Vec<Workload> {
    let workload = |name: &str, rate: u32| {
        let text = format!(
            "[guest]\nmemory = \"16MiB\"\n[[guest.writers]]\npattern = \"hot-cold\"\nworking-set = \"6MiB\"\nrate = {rate}\n\
             [link]\nbandwidth = \"100Mbit/s\"\n[run]\ntime-limit = \"8s\"\n"
        );
        let scenario = Scenario::parse(&text, name).unwrap();
        Workload { name: name.to_owned(), about: String::new(), scenario }
    };
    vec![workload("calm", 700), workload("wild", 40_000)]
}

fn contenders(texts: &[&str]) -> Vec<Contender> {
    texts.iter().map(|text| Contender::parse(text).unwrap()).collect()
}

fn options(repeat: u32) -> Options<'static> {
    Options { repeat, jobs: NonZeroUsize::new(2), ..Options::default() }
}

#[test]
fn runs_in_pairs_meet_the_same_guests() {
    let same = [
        Contender { name: "one".to_owned(), ..Contender::parse("xen-5").unwrap() },
        Contender { name: "other".to_owned(), ..Contender::parse("xen-5").unwrap() },
    ];
    let paired = run(&workloads(), &same, &options(4)).unwrap();
    for workload in 0..2 {
        assert!(paired.figures(workload, 0).eq(paired.figures(workload, 1)));
    }
    assert!(paired.summary().claims.is_empty());
    let apart = run(&workloads(), &same, &Options { seeds: Seeds::Independent, ..options(4) }).unwrap();
    assert!(!apart.figures(0, 0).eq(apart.figures(0, 1)));
    assert!(apart.figures(0, 0).eq(paired.figures(0, 0)));
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let policies = contenders(&["qemu-default", "xen-5", "pure-postcopy"]);
    let made = |jobs: usize| {
        let mut rows = String::new();
        let options = Options { jobs: NonZeroUsize::new(jobs), ..options(3) };
        let comparison = run_with(&workloads(), &policies, &options, |row| {
            rows.push_str(&row.line());
            Ok(())
        });
        let comparison = comparison.unwrap();
        let summary = comparison.summary();
        let page = page::render(&comparison, &summary, "again");
        (rows, comparison.json(&summary), summary.to_string(), page)
    };
    assert!(made(1) == made(3));
}

#[test]
fn a_row_is_the_run_that_its_seed_repeats() {
    let policies = contenders(&["qemu-default", "xen-5"]);
    let mut rows = Vec::new();
    let options = Options { seed: 7, seeds: Seeds::Independent, ..options(2) };
    run_with(&workloads(), &policies, &options, |row| {
        rows.push((row.workload.to_owned(), row.policy.to_owned(), row.seed, row.figures));
        Ok(())
    })
    .unwrap();
    assert_eq!(rows.len(), 8);
    let (_, policy, seed, figures) = rows.iter().find(|row| row.0 == "wild" && row.1 == "xen-5").unwrap();
    let mut scenario = workloads()[1].scenario.clone();
    scenario.apply_overrides(&[format!("policy.preset={policy}")]).unwrap();
    let alone = simulate(&simulation(scenario.setup(), *seed).unwrap()).unwrap();
    assert_eq!(Figures::of(&alone), *figures);
}

#[test]
fn what_differs_is_found_and_told_with_its_size() {
    let policies =
        contenders(&["qemu-default:downtime-limit=100ms", "qemu-default:downtime-limit=400ms", "xen-5"]);
    let summary = run(&workloads(), &policies, &options(12)).unwrap().summary();
    let claim = summary
        .claims
        .iter()
        .find(|claim| {
            claim.scope == Scope::Workload("calm".to_owned())
                && claim.objective == Objective::Downtime
                && claim.better.contains("100ms")
                && claim.worse.contains("400ms")
        })
        .unwrap_or_else(|| panic!("{summary}"));
    let ratio = claim.ratio.unwrap();
    assert!(ratio > 1.5 && claim.ratio_interval.unwrap().contains(ratio), "{claim:?}");
    assert!(claim.p < 0.05);
    // With the lower limit the wild guest never arrives.
    let failed = |policy: usize| summary.overall[policy].failed;
    assert_eq!((failed(0), failed(2)), (0.5, 0.0));
    let never = &summary.by_workload[3];
    assert_eq!((never.workload.as_deref(), never.total_s.median), (Some("wild"), None));
    assert!(summary.to_string().contains("never"), "{summary}");
}

#[test]
fn the_front_has_no_policy_that_another_betters() {
    let policies = contenders(&["qemu-default", "xen-5", "quick"]);
    let summary = run(&workloads(), &policies, &options(4)).unwrap().summary();
    let front: Vec<_> = summary.overall.iter().map(|row| row.on_front.unwrap()).collect();
    // Stop-and-copy is the quickest, xen-5 has the shorter pause; QEMU's rule loses half of the guests.
    assert!(front[1] && front[2], "{summary}");
    assert!(summary.overall.iter().all(|row| (0.0..=1.0).contains(&row.front_share.unwrap())));
}

#[test]
fn a_stopped_comparison_keeps_whole_repetitions() {
    let stop = AtomicBool::new(false);
    let made = std::sync::atomic::AtomicU32::new(0);
    let after = || {
        if made.fetch_add(1, Ordering::Relaxed) == 8 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let options = Options { stop: Some(&stop), after_run: Some(&after), ..options(50) };
    let comparison = run(&workloads(), &contenders(&["xen-5", "quick"]), &options).unwrap();
    assert!((1..50).contains(&comparison.repeat), "{}", comparison.repeat);
    assert_eq!(comparison.planned, 50);
    assert_eq!(comparison.figures(1, 1).len(), comparison.repeat as usize);
}

#[test]
fn names_must_differ_and_policies_must_exist() {
    let twice = run(&workloads(), &contenders(&["xen-5", "xen-5"]), &options(1)).unwrap_err();
    assert!(twice.to_string().contains("two policies called `xen-5`"), "{twice}");
    for (text, expected) in [
        ("xen-6", "did you mean `xen-5`"),
        ("xen-5:max-iteration=3", "max-iterations"),
        ("xen-5:max-iterations", "NAME=VALUE"),
        ("nowhere.toml", "cannot read nowhere.toml"),
    ] {
        let error = Contender::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_policys_file_has_a_name_or_is_called_as_the_file_is() {
    let folder = std::env::temp_dir().join(format!("whimbrel-contender-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let read = |text: &str| {
        let path = folder.join("mine.toml");
        std::fs::write(&path, text).unwrap();
        Contender::parse(path.to_str().unwrap())
    };
    let policy = "preset = \"xen-5\"\nmax-iterations = 9\n";
    for (text, name) in [
        (format!("[policy]\n{policy}"), "mine"),
        (format!("[policy]\nname = \"häufig\"\n{policy}"), "häufig"),
    ] {
        let contender = read(&text).unwrap();
        assert_eq!(contender.name, name);
        let nine = ("max-iterations", "9".to_owned());
        assert!(contender.policy.parameters().contains(&nine), "{:?}", contender.policy.parameters());
    }
    let error = read("[policy]\nname = \"x\"\npreset = \"xen-5\"\nmax = 1\n").unwrap_err();
    assert!(error.to_string().contains("mine.toml:4"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn how_many_runs_single_workloads_need_is_said() {
    let policies = contenders(&["qemu-default", "xen-5", "quick", "pure-postcopy"]);
    let summary = run(&workloads(), &policies, &options(2)).unwrap().summary();
    let needed = summary.needed_for_single_workloads.unwrap();
    // Six pairs, five objectives, two workloads: 2 x 2^-n below 0.025 / 60.
    assert_eq!(needed, 13);
    assert!(summary.to_string().contains("--repeat 13"), "{summary}");
}
