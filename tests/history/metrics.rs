//! Metrics.

use super::common::*;

#[test]
fn metrics_of_a_night_without_a_verdict_do_not_look_like_the_night_before() {
    let place = Place::new();
    let metrics = || std::fs::read_to_string(place.path("out/small.prom")).expect("metrics");
    let invalid = [
        "rehearse_backup_valid{rehearsal=\"small\",mode=\"backup-check\"} 0\n",
        "rehearse_run_outcome{rehearsal=\"small\",mode=\"backup-check\",outcome=\"invalid\"} 1\n",
    ];
    place.check(&["--metrics", "out/small.prom"]);
    assert!(
        invalid.iter().all(|line| metrics().contains(line)),
        "{}",
        metrics()
    );
    assert!(!metrics().contains("last_passed"), "{}", metrics());
    place.newest_passed();
    place.check(&["--metrics", "out/small.prom"]);
    assert!(
        metrics().contains("rehearse_last_passed_timestamp_seconds{"),
        "{}",
        metrics()
    );

    // The rehearsal can no longer be read: the run does not even begin.
    let good = "rehearse_backup_valid{rehearsal=\"small\",mode=\"backup-check\"} 1\n";
    std::fs::write(place.path("out/small.prom"), good).expect("a file");
    std::fs::write(place.path("rehearsal.yaml"), "rehearsal: [").expect("a file");
    let out = place.try_check(&["--metrics", "out/small.prom"]);
    assert_eq!(out.status.code(), Some(64), "{}", both(&out));
    assert!(
        invalid.iter().all(|line| metrics().contains(line)),
        "{}",
        metrics()
    );
    assert!(
        metrics().contains("rehearse_last_passed_timestamp_seconds{"),
        "{}",
        metrics()
    );
}

#[test]
fn metrics_that_cannot_be_written_make_a_run_invalid() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").expect("a file");
    let out = place.check(&["--metrics", "file/small.prom"]);
    assert!(
        both(&out).contains("the metrics `file/small.prom` could not be written"),
        "{}",
        both(&out)
    );
}
