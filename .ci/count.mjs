// Prints `N passed, N failed` from the test runner's JSON report; a run without a report, or one that ended badly
// without a failed test, counts as one failure.
import { readFileSync } from "node:fs"

const [, , file, code] = process.argv
let passed = 0
let failed = 0
try {
  const report = JSON.parse(readFileSync(file, "utf8"))
  passed = report.numPassedTests
  failed = report.numFailedTests
  if (report.numPendingTests + report.numTodoTests > 0) {
    console.log(`${report.numPendingTests + report.numTodoTests} tests were skipped`)
  }
} catch {
  console.log("the test run left no report")
}
if (failed === 0 && (code !== "0" || passed === 0)) failed = 1
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
