//! `evmux completions` and `evmux man`: what the command line tells about itself.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::binary::{evmux, run};

/// The options of all commands, as their help names them.
fn options() -> Vec<String> {
    let mut options = Vec::new();
    for command in ["serve", "load", "sniff"] {
        let help = run(evmux(&[command, "--help"])).stdout;
        let words = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
        let names = words.map(|rest| rest.split([' ', '=']).next().unwrap().to_owned());
        options.extend(names.map(|name| format!("--{name}")));
    }
    assert!(options.len() > 30, "{options:?}");
    options
}

#[test]
fn completions_of_each_shell_name_every_option() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(evmux(&["completions", shell]));
        assert_eq!(script.status.code(), Some(0), "{shell}");
        assert_eq!(script.stderr, "", "{shell}");
        for option in options() {
            // fish writes `-l name`.
            let name = option.trim_start_matches('-');
            assert!(script.stdout.contains(name), "{shell}: {option}");
        }
    }
    let ended = run(evmux(&["completions", "tcsh"]));
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("bash, elvish, fish, powershell, zsh"), "{}", ended.stderr);
}

#[test]
fn bash_understands_its_completions() {
    let script = run(evmux(&["completions", "bash"])).stdout;
    let mut bash = Command::new("bash");
    // Sourced, and asked what may stand behind `evmux load --pipe`.
    let question = "source /dev/stdin; COMP_WORDS=(evmux load --pipe); COMP_CWORD=2; \
                    _evmux evmux --pipe load; echo \"${COMPREPLY[@]}\"";
    bash.args(["-c", question]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut bash = bash.spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let answer = bash.wait_with_output().unwrap();
    assert!(answer.status.success());
    assert_eq!(String::from_utf8(answer.stdout).unwrap(), "--pipeline\n");
}

#[test]
fn the_manual_names_every_command_and_option() {
    let page = run(evmux(&["man"]));
    assert_eq!(page.status.code(), Some(0));
    let text = page.stdout.replace("\\-", "-");
    assert!(text.contains(".TH evmux 1"), "{text}");
    for command in ["SERVE", "CLIENT TCP", "LOAD", "RESOLVE", "SNIFF", "COMPLETIONS", "MAN"] {
        assert!(text.contains(&format!(".SH \"EVMUX {command}\"")), "{command}");
    }
    for option in options() {
        assert!(text.contains(&format!("\\fB{option}\\fR")), "{option}");
    }
}
