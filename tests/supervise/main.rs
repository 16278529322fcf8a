//! Containers under their supervisors, on this host as root.
//!
//! A supervisor is forked from a process with one thread and executes `/proc/self/exe`, so these tests have a runner of
//! their own: `main` takes the supervisor's role when it is asked to, else it runs each test in a process of its own.
//! It understands what cargo-nextest asks for (`--list --format terse`, `--exact NAME`).

mod attached;
mod lifecycle;
mod networked;
mod recovery;
mod world;

use std::process::{Command, ExitCode};

/// Every test by name.
const TESTS: &[(&str, fn())] = &[
    ("exit_codes_are_told", lifecycle::exit_codes_are_told),
    ("a_program_that_is_not_there_leaves_nothing", lifecycle::a_program_that_is_not_there_leaves_nothing),
    ("what_writes_to_the_log_can_be_read", lifecycle::what_writes_to_the_log_can_be_read),
    ("a_failing_container_is_restarted_by_its_policy", lifecycle::a_failing_container_is_restarted_by_its_policy),
    ("a_stop_ends_the_wait_for_a_restart", lifecycle::a_stop_ends_the_wait_for_a_restart),
    ("stop_does_not_wait_for_who_cannot_react", lifecycle::stop_does_not_wait_for_who_cannot_react),
    ("stop_waits_for_who_reacts", lifecycle::stop_waits_for_who_reacts),
    ("stop_kills_who_ignores_it", lifecycle::stop_kills_who_ignores_it),
    ("health_becomes_healthy_soon", lifecycle::health_becomes_healthy_soon),
    ("health_becomes_unhealthy", lifecycle::health_becomes_unhealthy),
    ("a_paused_container_goes_on", lifecycle::a_paused_container_goes_on),
    ("a_paused_container_can_be_killed", lifecycle::a_paused_container_can_be_killed),
    ("one_that_removes_itself_is_gone", lifecycle::one_that_removes_itself_is_gone),
    ("a_volume_is_filled_from_the_image", lifecycle::a_volume_is_filled_from_the_image),
    ("starts_go_in_parallel_from_threads", lifecycle::starts_go_in_parallel_from_threads),
    ("a_network_namespace_outlives_a_restart", lifecycle::a_network_namespace_outlives_a_restart),
    ("nothing_of_the_caller_reaches_the_container", lifecycle::nothing_of_the_caller_reaches_the_container),
    ("a_supervisor_is_small", lifecycle::a_supervisor_is_small),
    ("output_is_complete_and_exact", attached::output_is_complete_and_exact),
    ("fast_exits_lose_nothing", attached::fast_exits_lose_nothing),
    ("input_reaches_the_container_and_ends", attached::input_reaches_the_container_and_ends),
    ("a_terminal_is_a_terminal", attached::a_terminal_is_a_terminal),
    ("a_slow_client_is_dropped_or_waited_for", attached::a_slow_client_is_dropped_or_waited_for),
    ("attaching_later_shows_what_comes", attached::attaching_later_shows_what_comes),
    ("names_resolve_from_the_first_moment_on", networked::names_resolve_from_the_first_moment_on),
    ("a_network_survives_restarts_and_dead_supervisors", networked::a_network_survives_restarts_and_dead_supervisors),
    ("a_port_in_use_leaves_nothing", networked::a_port_in_use_leaves_nothing),
    ("a_supervisor_may_die_at_any_moment", networked::a_supervisor_may_die_at_any_moment),
    ("a_killed_supervisor_is_replaced", recovery::a_killed_supervisor_is_replaced),
    ("an_end_while_nobody_watched_is_seen", recovery::an_end_while_nobody_watched_is_seen),
    ("a_waiter_replaces_a_supervisor_that_died", recovery::a_waiter_replaces_a_supervisor_that_died),
    ("a_terminal_outlives_the_supervisor", recovery::a_terminal_outlives_the_supervisor),
    ("an_open_input_outlives_the_supervisor", recovery::an_open_input_outlives_the_supervisor),
    ("after_a_reboot_policies_start_again", recovery::after_a_reboot_policies_start_again),
    ("policies_survive_the_supervisor", recovery::policies_survive_the_supervisor),
    ("a_dead_pair_is_cleared_away", recovery::a_dead_pair_is_cleared_away),
];

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = wharf::supervise::take_role(&arguments) {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let words: Vec<String> = arguments.iter().skip(1).filter_map(|word| word.clone().into_string().ok()).collect();
    let names: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let has = |flag: &str| words.iter().any(|word| word == flag);
    if has("--list") {
        // Nothing here is ignored; nextest asks for the ignored ones separately.
        for (name, _) in TESTS.iter().filter(|_| !has("--ignored")) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if has("--exact")
        && let [name] = names[..]
        && let Some((_, test)) = TESTS.iter().find(|(known, _)| *known == name)
    {
        test();
        return ExitCode::SUCCESS;
    }
    run_each(&names)
}

fn run_each(filters: &[&str]) -> ExitCode {
    let mut failed = Vec::new();
    for (name, _) in
        TESTS.iter().filter(|(name, _)| filters.is_empty() || filters.iter().any(|part| name.contains(part)))
    {
        let begun = std::time::Instant::now();
        let program = std::env::current_exe().expect("/proc is mounted");
        let status = Command::new(program).args(["--exact", name]).status().expect("this program can be run again");
        let verdict = if status.success() { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict} ({} ms)", begun.elapsed().as_millis());
        if !status.success() {
            failed.push(*name);
        }
    }
    println!("{} failed {failed:?}", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}
