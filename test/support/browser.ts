/**
 * A headless Chromium of a test's own, and pages that write down what a browser complains about. Without the program there
 * is no page to test: that is a failure, in one clear line.
 */
import { type Browser, chromium, type Page } from "playwright-core"
import { findChromium, howToGetChromium } from "./installChromium.ts"

export type { Page }

export const openBrowser = (): Promise<Browser> => {
  const executablePath = findChromium()
  if (executablePath === undefined) throw new Error(howToGetChromium)
  // As root, which builds often run as, Chromium has no sandbox to offer.
  return chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] })
}

export interface Look {
  readonly width?: number
  readonly scheme?: "light" | "dark"
  /** What its user answers where the browser asks for a name and a password. */
  readonly httpCredentials?: { readonly username: string; readonly password: string }
}

/** What pages have complained about: errors of scripts and of the console, violations of the policy. */
export type Complaints = Array<string>

/** The browser says this of every answer that is no success; what the page makes of it is tested. */
const isAnswer = /^Failed to load resource: the server responded with a status of 40[134]/
/** A worker that a test has killed. */
const isGone = /net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET|EMPTY_RESPONSE)/

export const openPage = async (
  browser: Browser,
  complaints: Complaints,
  { scheme = "light", width = 1280, ...more }: Look = {}
): Promise<Page> => {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme, ...more })
  const page = await context.newPage()
  page.setDefaultTimeout(20_000)
  page.on("pageerror", (error) => complaints.push(error.stack ?? error.message))
  page.on("console", (message) => {
    const text = message.text()
    if (message.type() === "error" && !isAnswer.test(text) && !isGone.test(text)) complaints.push(text)
  })
  await page.exposeFunction("violated", (what: string) => complaints.push(`policy: ${what}`))
  await page.addInitScript(
    'document.addEventListener("securitypolicyviolation", (event) => window.violated([event.violatedDirective, event.blockedURI, event.sourceFile].join(" ")))'
  )
  return page
}
