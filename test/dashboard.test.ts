/**
 * The page in a real browser, served by workers that are processes of their own on a Redis of their own. With
 * `DASHBOARD_SCREENSHOTS` (a directory) each view is also left there as a picture, light, dark and on a phone's width.
 */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Layer, ManagedRuntime, Scope } from "effect"
import type { Browser } from "playwright-core"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { Engine, Job, Topic } from "../src/index.ts"
import { Web } from "../src/web/index.ts"
import { type Complaints, type Look, openBrowser, openPage, type Page } from "./support/browser.ts"
import { contrast } from "./support/contrast.ts"
import { directory } from "./support/places.ts"
import { type Child, start } from "./support/processes.ts"
import { makeServer } from "./support/redis.ts"
import { servedPort, token } from "./support/web.ts"
import { crate, crates, mail, parcels } from "./support/wharf.ts"

const letters = 10_000
const scope = Scope.makeUnsafe()
const complaints: Complaints = []
let browser: Browser
let spawn: (member: string) => Promise<{ readonly child: Child; readonly url: string }>
let run: <A>(effect: Effect.Effect<A, unknown, Engine.Services>) => Promise<A>
let gate: string
let url: string

const scoped = <A>(effect: Effect.Effect<A, never, Scope.Scope>): Promise<A> =>
  Effect.runPromise(Scope.provide(effect, scope))

beforeAll(async () => {
  browser = await openBrowser()
  const server = await scoped(makeServer())
  gate = join(await scoped(directory), "gate")
  const namespace = "wharf"
  const env = { MILLRACE_URL: server.url, MILLRACE_NAMESPACE: namespace, TOKEN: token, GATE: gate }
  spawn = async (member) => {
    const child = await scoped(start("dashboard", { ...env, MEMBER: member }))
    const line = await Effect.runPromise(child.until(({ what }) => what === "serves", "where it serves"))
    return { child, url: String(line["url"]) }
  }
  const runtime = ManagedRuntime.make(Engine.layerRedis({ url: server.url, namespace }))
  await Effect.runPromise(Scope.addFinalizer(scope, runtime.disposeEffect))
  run = (effect) => runtime.runPromise(effect)
  const workers = await Promise.all([spawn("dock-one"), spawn("dock-two")])
  url = workers[0]!.url
  await run(
    Effect.gen(function* () {
      yield* Topic.publishAll(
        parcels,
        Array.from({ length: letters }, (_, n) => crate(n, "broken"))
      )
      yield* Topic.publishAll(
        crates,
        Array.from({ length: 500 }, (_, n) => crate(n))
      )
      yield* Topic.publishAll(crates, [crate(500, "jammed", "ship-jam"), crate(501, "held", "ship-held")])
      for (const to of ["ship-1", "ship-2", "port-3"]) yield* Job.enqueue(mail, { to })
      yield* Job.enqueue(mail, { to: "port-4" }, { delay: "1 hour" })
      yield* Job.every(mail, "pulse", { every: "1 hour", payload: { to: "port" } })
    })
  )
}, 60_000)

afterAll(async () => {
  await browser?.close()
  await Effect.runPromise(Scope.close(scope, Effect.runSync(Effect.exit(Effect.void))))
})

const visit = async (hash: string, look?: Look, at = url): Promise<Page> => {
  const page = await openPage(browser, complaints, look)
  await page.goto(`${at}/#/${hash}`)
  return page
}

const shut = (page: Page): Promise<void> => page.context().close()

/** Opens the page with the token in it already, as after a sign-in. */
const visitSignedIn = async (hash: string): Promise<Page> => {
  const page = await openPage(browser, complaints)
  await page.addInitScript(`sessionStorage.setItem("millrace-token", ${JSON.stringify(token)})`)
  await page.goto(`${url}/#/${hash}`)
  return page
}

describe("the page", () => {
  it("shows a rebalance as it happens, and says so where its worker has gone", async () => {
    const page = await visit("processors/unloading")
    const legend = page.getByRole("list", { name: "Owners" })
    await legend.getByText("dock-two: 8").or(legend.getByText("dock-two: 7")).waitFor()
    const third = await spawn("dock-three")
    const itsOwn = await visit("", undefined, third.url)
    await itsOwn.getByText("Live, ").waitFor()
    await legend.getByText(/dock-three: [1-9]/).waitFor()
    await page.locator(".slot[data-fresh]").first().waitFor()
    assert.isAbove(await page.getByRole("button", { name: /^Partition \d+: dock-three, epoch \d+/ }).count(), 0)
    await Effect.runPromise(third.child.signal("SIGKILL"))
    await page
      .getByText(/dock-three left, \d+ partitions? changed/)
      .first()
      .waitFor()
    await legend.getByText("dock-three").waitFor({ state: "detached" })
    await page
      .getByRole("button", { name: /^Partition \d+: dock-three/ })
      .first()
      .waitFor({ state: "detached" })
    await itsOwn.getByRole("alert").getByText("Trying again").waitFor()
    await itsOwn.getByText("Disconnected").first().waitFor()
    await Promise.all([shut(page), shut(itsOwn)])
  }, 60_000)

  it("takes 256 partitions and ten thousand dead letters in its stride", async () => {
    const map = await visit("processors/sorting")
    await map.locator(".slot").nth(255).waitFor()
    assert.strictEqual(await map.locator(".slot").count(), 256)
    // Real time: a few looks come, and where nothing moves nothing is built anew.
    await map.getByText("Live, ").waitFor()
    const built = await map.evaluate(
      `new Promise((resolve) => {
        let nodes = 0
        new MutationObserver((all) => { for (const one of all) nodes += one.addedNodes.length })
          .observe(document.querySelector(".map"), { childList: true, subtree: true })
        setTimeout(() => resolve(nodes), 2500)
      })`
    )
    assert.strictEqual(built, 0)
    await shut(map)

    const page = await visitSignedIn("dead/parcels.dead")
    await page.getByText(`${letters.toLocaleString("en")} letters that were not put back`).waitFor()
    const rows = page.locator("tbody tr")
    await rows.nth(99).waitFor()
    const before = await rows.first().textContent()
    const begun = performance.now()
    await page.getByRole("button", { name: "Next" }).click()
    await page.getByText("Page 2, 100 rows").waitFor()
    assert.isBelow(performance.now() - begun, 5_000)
    assert.notStrictEqual(await rows.first().textContent(), before)
    assert.strictEqual(await rows.count(), 100)

    // What was stored is text, whatever it looks like.
    assert.include((await rows.first().textContent()) ?? "", "</b> arrived broken")
    assert.strictEqual(await page.locator("main td b").count(), 0)
    await page
      .getByRole("button", { name: /^Open letter/ })
      .first()
      .click()
    const dialog = page.getByRole("dialog")
    await dialog.getByText('"fate": "broken"').waitFor()
    assert.strictEqual(await dialog.locator("b").count(), 0)
    await page.keyboard.press("Escape")

    await page.getByLabel("All on this page").check()
    await page.getByRole("button", { name: "Redrive 100 chosen" }).click()
    await page.getByText("Put back: 100 events, each exactly once.").waitFor()
    await shut(page)
  }, 60_000)

  it("releases a quarantined partition by a click, with the token and not without", async () => {
    const page = await visit("aside")
    const release = page.getByRole("button", { name: /^Release partition \d+ of unloading$/ })
    await page.getByText("crate 500 is stuck in the crane").waitFor()
    await release.click()
    const dialog = page.getByRole("dialog")
    await dialog.getByText("This changes something, so it needs the token.").waitFor()
    await dialog.getByLabel("Token").fill("a-wrong-token-0123456789")
    await dialog.getByRole("button", { name: "Sign in" }).click()
    await dialog.getByText("This is not the token of this worker.").waitFor()
    await dialog.getByRole("button", { name: "Cancel" }).click()
    await page.getByText("Nothing was changed: it needs the token.").waitFor()
    assert.isTrue(await release.isVisible())

    // What failed is mended.
    writeFileSync(gate, "")
    await release.click()
    await dialog.getByLabel("Token").fill(token)
    await page.keyboard.press("Enter")
    await page.getByText(/^Released: partition \d+ of unloading/).waitFor()
    await page.getByText("No partition is in quarantine.").waitFor()
    assert.strictEqual(await page.evaluate("Object.keys(localStorage).length"), 0)
    await page.evaluate("location.hash = '#/processors/unloading'")
    // The one key that is parked is handled as far as partitions are concerned.
    await page.locator(".tile", { hasText: "Behind" }).getByText("0", { exact: true }).waitFor()
    await shut(page)
  }, 60_000)

  it("retries, cancels, pauses and flushes, and asks before it destroys", async () => {
    const page = await visitSignedIn("queues/post")
    await page
      .getByRole("button", { name: /^Retry job/ })
      .nth(1)
      .waitFor()
    await page
      .getByRole("button", { name: /^Open job/ })
      .first()
      .click()
    await page.getByRole("dialog").getByText("the customs hold ship-").first().waitFor()
    await page.keyboard.press("Escape")
    await page
      .getByRole("button", { name: /^Retry job/ })
      .first()
      .click()
    await page.getByText(/^Job .* is ready now/).waitFor()
    await page.getByLabel("State").selectOption("delayed")
    await page.getByRole("button", { name: /^Cancel job/ }).click()
    const dialog = page.getByRole("dialog")
    assert.strictEqual(await dialog.locator(":focus").textContent(), "Cancel")
    await page.keyboard.press("Escape")
    await dialog.waitFor({ state: "detached" })
    await page.getByRole("button", { name: /^Cancel job/ }).click()
    await dialog.getByRole("button", { name: "Cancel the job" }).click()
    await page.getByText(/^Job .* is cancelled/).waitFor()
    await page.getByRole("button", { name: "Pause post" }).click()
    await page.getByRole("button", { name: "Resume post" }).click()
    await page.getByText("post goes on.").waitFor()
    await page.getByRole("button", { name: "Remove post", exact: true }).click()
    await dialog.getByText("It is forgotten with all of its jobs, results and schedules.").waitFor()
    await page.keyboard.press("Escape")
    await dialog.waitFor({ state: "detached" })
    await page.getByRole("button", { name: "Pause pulse of post" }).click()
    await page.getByRole("button", { name: "Resume pulse of post" }).waitFor()

    await page.evaluate("location.hash = '#/tables/weights'")
    await page.getByLabel("Key", { exact: true }).fill("ship-7")
    await page.keyboard.press("Enter")
    await page.getByLabel("Payload").getByText(/^\d+$/).waitFor()
    await page.getByLabel("Key", { exact: true }).fill("none")
    await page.keyboard.press("Enter")
    await page.getByText("No row has the key none.").waitFor()
    await page.evaluate("location.hash = '#/schedules'")
    await page.getByRole("cell", { name: "tides" }).waitFor()
    await shut(page)
  }, 60_000)

  it("says so where the server has no token to give", async () => {
    const served = Web.layer({ port: 0 }).pipe(Layer.provide(Engine.layerMemory))
    const port = await scoped(
      Effect.orDie(Effect.flatMap(Layer.build(served), (context) => Effect.provide(servedPort, context)))
    )
    const page = await visit("", undefined, `http://127.0.0.1:${port}`)
    await page.getByText("No processor has run on this engine yet.").waitFor()
    await page.getByRole("button", { name: "Sign in" }).click()
    await page.getByRole("dialog").getByLabel("Token").fill(token)
    await page.keyboard.press("Enter")
    await page.getByRole("dialog").getByText("What changes something needs a token, and this server has none").waitFor()
    assert.isNull(await page.evaluate('sessionStorage.getItem("millrace-token")'))
    await shut(page)
  }, 60_000)

  it("is reached by keyboard: links, actions, dialogs, the map", async () => {
    const page = await visit("queues/post")
    const name = () =>
      page.evaluate<string>("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")
    await page
      .getByRole("button", { name: /^Open job/ })
      .first()
      .waitFor()
    await page.keyboard.press("Tab")
    assert.strictEqual(await name(), "Skip to content")
    await page.keyboard.press("Enter")
    const met: Array<string> = []
    for (let i = 0; i < 20 && !met.at(-1)?.startsWith("Open job"); i++) {
      await page.keyboard.press("Tab")
      met.push(await name())
      const outline = await page.evaluate<string>("getComputedStyle(document.activeElement).outlineStyle")
      assert.notStrictEqual(outline, "none", `the focus is seen on ${met.at(-1)}`)
    }
    assert.include(met, "Pause post")
    await page.keyboard.press("Enter")
    await page.getByRole("dialog").waitFor()
    await page.keyboard.press("Escape")
    await page.getByRole("dialog").waitFor({ state: "detached" })
    assert.match(await name(), /^Open job/)

    await page.keyboard.press("3")
    await page.getByRole("heading", { name: "Processors", level: 1 }).waitFor()
    await page.evaluate("location.hash = '#/processors/unloading'")
    await page.locator(".slot").first().focus()
    for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft"]) await page.keyboard.press(key)
    assert.match(await name(), /^Partition 1: /)
    await page.keyboard.press("End")
    assert.match(await name(), /^Partition 15: /)
    await page.keyboard.press("?")
    await page.getByRole("dialog", { name: "Help" }).getByText("Single keys").waitFor()
    await shut(page)
  }, 60_000)

  const views = [
    "",
    "topics",
    "topics/crates",
    "processors",
    "processors/unloading",
    "aside",
    "dead",
    "dead/parcels.dead",
    "queues",
    "queues/post",
    "schedules",
    "tables",
    "tables/weights",
    "workers",
    "workers/dock-one"
  ]

  it.each([
    { scheme: "light", width: 1280 },
    { scheme: "dark", width: 1280 },
    { scheme: "light", width: 390 }
  ] as const)(
    "can be read in all views: $scheme, $width pixels",
    async ({ scheme, width }) => {
      const page = await visit("", { scheme, width })
      await page.getByText("Live, ").waitFor()
      for (const view of views) {
        await page.evaluate(`location.hash = "#/${view}"`)
        await page.locator("[aria-busy]").first().waitFor({ state: "detached" })
        await page.locator("main").getByRole("heading", { level: 1 }).waitFor()
        const wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert.deepStrictEqual([view, wide], [view, 0])
        const { faint, seen } = await contrast(page)
        assert.deepStrictEqual([view, faint], [view, []])
        assert.isAbove(seen, 20, view)
        const pictures = process.env["DASHBOARD_SCREENSHOTS"]
        if (pictures !== undefined) {
          const file = `${view.replaceAll("/", "-") || "overview"}-${scheme}-${width}.png`
          await page.screenshot({ path: join(pictures, file), fullPage: true })
        }
      }
      // What is too faint would have been found.
      await page.evaluate("document.querySelector('h1').style.color = '#777'")
      assert.lengthOf((await contrast(page)).faint, 1)
      await shut(page)
    },
    60_000
  )

  it("has met no error and broken no policy", () => {
    assert.deepStrictEqual(complaints, [])
  })
})
