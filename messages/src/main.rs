//! The one executable: every service by itself or all in one process, and what admins need.

use std::process::ExitCode;
use std::time::Duration;

use clap::FromArgMatches;
use messages::cli::Cli;
use messages::help;

/// How long is waited for threads that block when all is done.
const LEFT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&help::command().get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("✗ no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(cli.run());
    // What had to be finished is. A look for Kafka, which nobody can break off, may be left.
    runtime.shutdown_timeout(LEFT);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("✗ {error:#}");
            ExitCode::FAILURE
        }
    }
}
