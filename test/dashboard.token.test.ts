/** The page of a server that shows nothing without the token, in a real browser: it is asked for once, and not kept. */
import { join } from "node:path"
import { Effect, Exit, Layer, Redacted, Scope } from "effect"
import type { Browser } from "playwright-core"
import { afterAll, assert, beforeAll, it } from "vitest"
import { Engine, Worker } from "../src/index.ts"
import { type Complaints, openBrowser, openPage, type Page } from "./support/browser.ts"
import { freePort } from "./support/redis.ts"
import { token } from "./support/web.ts"
import { parts } from "./support/wharf.ts"

const complaints: Complaints = []
const other = "another-token-0123456789"
let browser: Browser

beforeAll(async () => {
  browser = await openBrowser()
}, 60_000)
afterAll(() => browser?.close())

/** A worker that is open to other machines, until it is closed. */
const open = async (port: number, secret: string): Promise<() => Promise<void>> => {
  const scope = Scope.makeUnsafe()
  const web = { port, host: "0.0.0.0", token: Redacted.make(secret) }
  const worker = Layer.provide(Worker.layer(parts, { web }), Engine.layerMemory)
  await Effect.runPromise(Scope.provide(Layer.build(Layer.fresh(worker)), scope))
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}

const shoot = async (page: Page, name: string): Promise<void> => {
  const pictures = process.env["DASHBOARD_SCREENSHOTS"]
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, `${name}.png`) })
}

it("asks once: looking and changing go on from that; where the token is another one, the page asks, for its tab", async () => {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}/#/processors/unloading`
  let close = await open(port, token)
  // What the browser's own question is answered with.
  const httpCredentials = { username: "me", password: token }
  const page = await openPage(browser, complaints, { httpCredentials })
  const dialog = page.getByRole("dialog")
  const signIn = page.getByRole("button", { name: "Sign in", exact: true })
  await page.goto(url)
  await page.getByText("Live, ").waitFor()
  await signIn.waitFor({ state: "hidden" })
  await page.getByRole("button", { name: "Pause" }).click()
  await dialog.getByRole("button", { name: "Pause it" }).click()
  await page.getByText("unloading is paused.").waitFor()
  assert.strictEqual(await dialog.count(), 0)
  await shoot(page, "token-brought")

  // The worker comes again with another token, while a question is open.
  await page.getByRole("button", { name: "Resume" }).waitFor()
  await page.keyboard.press("?")
  await dialog.waitFor()
  await close()
  close = await open(port, other)
  await page.getByText("Not allowed").first().waitFor()
  await page.keyboard.press("Escape")
  await dialog.getByText("This worker shows nothing without the token.").waitFor()
  await shoot(page, "token-asked")
  await dialog.getByLabel("Token").fill(other)
  await page.keyboard.press("Enter")
  await page.getByText("Live, ").waitFor()
  await dialog.waitFor({ state: "detached" })
  await page.getByRole("button", { name: "Sign out" }).waitFor()
  await page.getByRole("button", { name: "Pause" }).click()
  await dialog.getByRole("button", { name: "Pause it" }).click()
  await page.getByText("unloading is paused.").last().waitFor()
  const kept = "[sessionStorage, localStorage].map((one) => Object.values(one).join())"
  assert.deepStrictEqual(await page.evaluate(kept), [other, ""])
  assert.notInclude(await page.evaluate<string>("document.cookie + location.href"), other)
  await shoot(page, "token-signed-in")

  // Without it there is nothing to see, and the page asks again.
  await page.getByRole("button", { name: "Sign out" }).click()
  await dialog.getByText("This worker shows nothing without the token.").waitFor()
  await page.getByRole("alert").getByText("This worker shows nothing without the token.").waitFor()
  assert.deepStrictEqual(await page.evaluate(kept), ["", ""])
  await page.keyboard.press("Escape")
  await signIn.waitFor()
  await close()
  assert.deepStrictEqual(complaints, [])
}, 60_000)
