//! What is answered, and what is not even given to a driver.

use whimbrel_engine::orders::Orders;

use super::*;

fn desk(side: Side) -> Desk {
    Desk::new(side, Some(MigrationId(7)), "lab@0")
}

#[test]
fn how_it_stands_is_told_and_what_is_unknown_refused() {
    let (orders, desk) = (Orders::new(), desk(Side::Source));
    let reply = desk.answer("status", &orders.remote());
    assert_eq!((reply.taken, reply.refused), (None, None));
    assert_eq!(reply.standing, desk.now());
    assert_eq!(reply.standing.migration.as_deref(), Some("0000000000000007"));
    let reply = desk.answer("statsu", &orders.remote());
    assert_eq!((reply.taken, reply.refused.as_deref()), (Some(false), Some("`statsu` is not known to it")));
}

#[test]
fn who_is_not_in_doubt_is_given_no_order_that_ends_it() {
    let orders = Orders::new();
    for side in [Side::Source, Side::Destination] {
        for order in ["peer-never-ran", "peer-may-have-run", "discard"] {
            let reply = desk(side).answer(order, &orders.remote());
            assert!(reply.refused.as_ref().is_some_and(|why| why.contains("no doubt to end")), "{reply:?}");
        }
    }
    let doubtful = desk(Side::Source);
    doubtful.note(|standing| standing.in_doubt = true);
    let reply = doubtful.answer("discard", &orders.remote());
    assert!(reply.refused.is_some_and(|why| why.contains("only a destination")));
}

#[test]
fn an_order_that_the_driver_does_not_take_is_refused_at_once_with_its_reason() {
    let (orders, desk) = (Orders::new(), Arc::new(desk(Side::Destination)));
    desk.note(|standing| standing.in_doubt = true);
    let reply = std::thread::scope(|scope| {
        let asked = scope.spawn(|| desk.answer("peer-never-ran", &orders.remote()));
        while !asked.is_finished() {
            // What is said of another order says nothing of it.
            desk.decided(&Order::Discard, Ok(()));
            desk.decided(&Order::Fence(Fence::NeverRan), Err("there is a connection"));
            std::thread::sleep(Duration::from_millis(1));
        }
        asked.join().expect("an answer")
    });
    assert_eq!(reply.taken, Some(false));
    assert_eq!(reply.refused.as_deref(), Some("it was not taken: there is a connection"));
}

#[test]
fn what_goes_over_the_socket_is_read_as_it_was_meant() {
    let change = Question::Change { parameter: "downtime-limit".to_owned(), value: "1 s = a lot".to_owned() };
    let rate = "200MB/s".parse().expect("a rate");
    for question in [
        Question::Status,
        Question::Cancel,
        Question::PeerNeverRan,
        Question::PeerMayHaveRun,
        Question::Discard,
        Question::Limit(RateLimit::Unlimited),
        Question::Limit(RateLimit::AtMost(rate)),
        change,
    ] {
        assert_eq!(Question::read(&question.to_line()), Some(question));
    }
    for line in ["", "limit", "limit ", "limit 0B/s", "limit 5", "change", "change mood", "cancel now"] {
        assert_eq!(Question::read(line), None, "{line}");
    }
}

#[test]
fn a_limit_is_given_to_a_source_that_sends_and_to_nobody_else() {
    let orders = Orders::new();
    let reply = desk(Side::Destination).answer("limit unlimited", &orders.remote());
    assert!(reply.refused.is_some_and(|why| why.contains("only a source decides")));
    let source = Arc::new(desk(Side::Source));
    let reply = source.answer("limit 1MB/s", &orders.remote());
    assert!(reply.refused.is_some_and(|why| why.contains("nothing is moved yet")));
    source.begun();
    let reply = std::thread::scope(|scope| {
        let asked = scope.spawn(|| source.answer("limit unlimited", &orders.remote()));
        // The phase goes on meanwhile, which is not the answer.
        source.note(|standing| standing.phase = "harvesting the dirty log".to_owned());
        while !asked.is_finished() {
            source.decided(&Order::Limit(RateLimit::Unlimited), Ok(()));
            std::thread::sleep(Duration::from_millis(1));
        }
        asked.join().expect("an answer")
    });
    assert_eq!((reply.taken, reply.refused), (Some(true), None));
}

#[test]
fn an_order_of_which_nothing_was_heard_may_still_be_taken_and_whoever_gave_it_is_told_so() {
    let (orders, desk) = (Orders::new(), desk(Side::Source));
    let reply = desk.answer("cancel", &orders.remote());
    let why = reply.refused.expect("not heard of");
    assert_eq!(reply.taken, None, "{why}");
    for words in
        ["nothing was heard of it within 3.00 s", "it may still be taken", "`whimbrel resolve --control`"]
    {
        assert!(why.contains(words), "{words}: {why}");
    }
}

#[test]
fn an_order_has_effect_when_the_phase_changes() {
    let (orders, desk) = (Orders::new(), Arc::new(desk(Side::Destination)));
    desk.note(|standing| standing.in_doubt = true);
    let reply = std::thread::scope(|scope| {
        let asked = scope.spawn(|| desk.answer("peer-never-ran", &orders.remote()));
        std::thread::sleep(Duration::from_millis(20));
        for phase in ["letting the guest run", "the guest runs here"] {
            desk.note(|standing| standing.phase = phase.to_owned());
        }
        asked.join().expect("an answer")
    });
    assert_eq!((reply.taken, reply.standing.phase.as_str()), (Some(true), "the guest runs here"));
}
