/** The laws that an engine of one's own can run: one that breaks them is told of it, port by port. */
import { execFile } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "vitest"

interface Results {
  readonly testResults: ReadonlyArray<{
    readonly assertionResults: ReadonlyArray<{
      readonly ancestorTitles: ReadonlyArray<string>
      readonly title: string
      readonly status: string
    }>
  }>
}

const run = (): Promise<Results> =>
  new Promise((resolve, reject) => {
    const directory = mkdtempSync(join(tmpdir(), "millrace-laws-"))
    const report = join(directory, "report.json")
    const vitest = join(import.meta.dirname, "../node_modules/vitest/vitest.mjs")
    const config = join(import.meta.dirname, "support/laws/vitest.config.ts")
    const args = [vitest, "run", "--config", config, "--reporter", "json", "--outputFile", report]
    execFile(process.execPath, args, { maxBuffer: 64 * 1024 * 1024 }, (_, stdout, stderr) => {
      try {
        resolve(JSON.parse(readFileSync(report, "utf8")))
      } catch {
        reject(new Error(stdout + stderr))
      } finally {
        rmSync(directory, { recursive: true, force: true })
      }
    })
  })

it("an engine that breaks a law of each port fails that law, and keeps the others", { timeout: 120_000 }, async () => {
  const { testResults } = await run()
  const all = testResults.flatMap(({ assertionResults }) => assertionResults)
  const of = (status: string, port: string): ReadonlyArray<string> =>
    all
      .filter((one) => one.status === status && one.ancestorTitles.includes(`${port} laws: broken`))
      .map((one) => one.title)
  const broken = {
    broker: "an append that is sent again is stored once and answered with its ids",
    "table store": "values are answered in the order of the keys, undefined where there is no row",
    coordinator: "a member that stops syncing loses everything when its lease has ended, and not before",
    "job store": "the same number gets the same jobs and the same refusals, and changes nothing"
  }
  for (const [port, law] of Object.entries(broken)) {
    assert.include(of("failed", port), law)
    assert.isAbove(of("passed", port).length, of("failed", port).length)
  }
})
