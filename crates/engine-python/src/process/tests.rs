use super::*;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(std::process::Stdio::piped());
    command
}

#[test]
fn a_process_ends_with_all_that_it_started() {
    let processes = Processes::new();
    let mut process = processes.start(shell("sleep 600 & echo $!; wait")).unwrap();
    let mut child = String::new();
    let mut printed = std::io::BufReader::new(process.child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut printed, &mut child).unwrap();
    assert!(!process.has_ended());
    assert!(processes.resident_bytes() > 0);
    assert!(ending(process.end(Duration::ZERO)).contains("signal 9"));
    assert!(process.has_ended());
    assert_eq!(processes.resident_bytes(), 0);
    // It was told to end with its parent; that it has, the system may do in its own time.
    let path = format!("/proc/{}/stat", child.trim());
    let has_ended = || std::fs::read_to_string(&path).map_or(true, |state| state.contains(") Z "));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !has_ended() {
        assert!(Instant::now() < deadline, "the child of the child still runs");
        std::thread::yield_now();
    }
}

#[test]
fn a_process_may_end_by_itself_and_is_asked_how() {
    let processes = Processes::new();
    for (script, expected) in
        [("exit 3", "exited with status 3"), ("kill -11 $$", "crashed (signal 11"), ("kill -15 $$", "signal 15")]
    {
        let mut process = processes.start(shell(script)).unwrap();
        let text = ending(process.end(Duration::from_secs(60)));
        assert!(text.contains(expected), "{text}");
        assert_eq!(ending(process.end(Duration::ZERO)), text);
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = Processes::new().start(Command::new("/no/such/python")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("'/no/such/python' cannot be started"), "{error}");
}

#[test]
fn a_process_is_pinned() {
    let mut command = shell("sleep 600");
    command.stdout(std::process::Stdio::null());
    let process = Processes::new().start(command).unwrap();
    let allowed = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned()
    };
    process.stay_on(None);
    let any = allowed();
    let first: usize = any.split(['-', ',']).next().unwrap().parse().unwrap();
    process.stay_on(Some(first));
    assert_eq!(allowed(), first.to_string());
}
