//! The executable: it runs one service, or all of them in one process, and the operator's commands.

use std::process::ExitCode;
use std::time::Duration;

use clap::FromArgMatches;
use messages::cli::Cli;
use messages::help;
use service::allocations::CountingAllocator;
use service::printable::escaped;
use tikv_jemallocator::Jemalloc;

/// jemalloc gives memory back: after thousands of sockets have gone, a process with glibc's allocator keeps most of what
/// they needed. librdkafka stays with glibc: what one of its threads allocates another one frees, which costs jemalloc
/// more.
#[global_allocator]
static ALLOCATOR: CountingAllocator<Jemalloc> = CountingAllocator(Jemalloc);

/// How long the process waits at its end for threads that block.
const BLOCKING_THREADS_TIMEOUT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&help::command().get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("✗ can't start the runtime's threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(cli.run());
    // Everything that had to finish has finished. A request to Kafka blocks its thread and can't be cancelled; the
    // process doesn't wait for it any longer.
    runtime.shutdown_timeout(BLOCKING_THREADS_TIMEOUT);
    match result {
        Ok(exit_code) => exit_code,
        Err(error) => {
            eprintln!("✗ {}", escaped(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}
