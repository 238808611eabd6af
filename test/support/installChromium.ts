/**
 * Run before the tests: if there is no Chromium (or Chrome), installs it where that can be done; otherwise says in one line
 * how to get it. `MILLRACE_TEST_CHROMIUM` names one that is somewhere else.
 */
import { existsSync } from "node:fs"
import { delimiter, join } from "node:path"
import { pathToFileURL } from "node:url"
import { install } from "./install.ts"

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
const application = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"

/** Where it is, if there is one. */
export const findChromium = (): string | undefined =>
  [
    process.env["MILLRACE_TEST_CHROMIUM"] ?? "",
    ...(process.env["PATH"] ?? "").split(delimiter).flatMap((directory) => names.map((name) => join(directory, name))),
    application
  ].find((path) => path !== "" && existsSync(path))

export const howToGetChromium =
  "The tests of the page need Chromium on the PATH: apt-get install chromium, dnf install chromium, " +
  "brew install --cask google-chrome, or its path in MILLRACE_TEST_CHROMIUM"

const installChromium = (): boolean => install("chromium", "chromium", () => findChromium() !== undefined)

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href && !installChromium()) {
  console.error(howToGetChromium)
  process.exitCode = 1
}
