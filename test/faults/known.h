// known.h: faults of the program that tests of faults have found and that are not mended yet. Each line goes when its mend comes, and the tests are as strict as
// they should be.
#pragma once

constexpr bool LOGS_ARE_NOT_SYNCED = false;      // a power cut may leave logs shorter than trainer.json says, which ends a resume
constexpr bool INTERRUPTED_CALLS_END = false;    // EINTR of open, fsync, ftruncate, close and of a log's write ends the run
constexpr bool LOG_ERRORS_NAME_NO_FILE = false;  // "the log cannot be written"
constexpr bool TEMPORARY_FILES_STAY = false;     // of the token cache, when the run is killed
constexpr bool LOOKS_THAT_FAIL_ARE_DAMAGE = false;  // a checkpoint whose files cannot be looked at is passed over, and not counted when others are pruned
