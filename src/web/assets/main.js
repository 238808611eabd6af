/**
 * The page: one view at a time, fed by one stream of looks. A look is taken into the history at once, and drawn with the
 * next frame.
 */
import { needsToken, session } from "./api.js"
import { h, setAttribute, setText, show } from "./dom.js"
import { compact, time } from "./format.js"
import { take } from "./history.js"
import { follow } from "./live.js"
import { announce, say } from "./notices.js"
import { meet } from "./owners.js"
import { place } from "./router.js"
import { explainKeys, listenToKeys } from "./shortcuts.js"
import { signIn, signOut } from "./signIn.js"
import { nextTheme, startTheme } from "./theme.js"
import { aside } from "./views/aside.js"
import { deadLetters, deadTopics } from "./views/dead.js"
import { overview } from "./views/overview.js"
import { processor } from "./views/processor.js"
import { processors } from "./views/processors.js"
import { queue } from "./views/queue.js"
import { queues } from "./views/queues.js"
import { schedules } from "./views/schedules.js"
import { table, tables } from "./views/tables.js"
import { topic, topics } from "./views/topics.js"
import { worker, workers } from "./views/workers.js"

const sum = (list, of) => list.reduce((all, one) => all + of(one), 0)

/** Of each: its path, its name, the view of all and of one, and a number that should be 0. */
const views = [
  { path: "", name: "Overview", all: overview },
  { path: "topics", name: "Topics", all: topics, one: topic },
  { path: "processors", name: "Processors", all: processors, one: processor },
  { path: "aside", name: "Set aside", all: aside, wrong: (now) => now.quarantined.length },
  {
    path: "dead",
    name: "Dead letters",
    all: deadTopics,
    one: deadLetters,
    wrong: (now) => sum(now.deadTopics, (one) => one.letters)
  },
  {
    path: "queues",
    name: "Queues",
    all: queues,
    one: queue,
    wrong: (now) => sum(now.queues, (one) => one.counts.dead)
  },
  { path: "schedules", name: "Schedules", all: schedules },
  { path: "tables", name: "Tables", all: tables, one: table },
  { path: "workers", name: "Workers", all: workers, one: worker }
]

const element = (id) => document.getElementById(id)
let current
let latest

// ------------------------------------------------------------------------------------------------------------- views

const links = views.map(({ name, path, wrong }) => {
  const number = h("span", { class: "number", hidden: true })
  const link = h("a", { href: `#/${path}` }, name, number)
  element("views").append(h("li", {}, link))
  return {
    path,
    link,
    update: (now) => {
      const found = wrong?.(now) ?? 0
      setText(number, compact(found))
      show(number, found > 0)
    }
  }
})

const draw = () => {
  if (latest === undefined) return
  for (const link of links) link.update(latest)
  current.update(latest)
}

const titleOf = ({ kind, title }) => (kind === undefined ? [title] : [h("span", { class: "kind" }, `${kind} `), title])

const go = () => {
  const { name, view } = place()
  const found = views.find(({ path }) => path === view) ?? views[0]
  current?.close?.()
  current = name !== undefined && found.one !== undefined ? found.one(name) : found.all()
  for (const { link, path } of links) setAttribute(link, "aria-current", path === found.path ? "page" : undefined)
  // On a narrow screen the list of views is longer than its line.
  links.find(({ path }) => path === found.path).link.scrollIntoView({ block: "nearest", inline: "center" })
  element("title").replaceChildren(...titleOf(current))
  document.title = `${current.title} · Millrace`
  element("heading-tools").replaceChildren(...(current.tools ?? []))
  if (latest !== undefined) element("view").replaceChildren(current.element)
  draw()
}

const visit = () => {
  go()
  window.scrollTo(0, 0)
  element("main").focus({ preventScroll: true })
  say(current.title)
}

// -------------------------------------------------------------------------------------------------------------- state

const states = {
  connecting: "Connecting",
  live: "Live",
  away: "Engine away",
  lost: "Disconnected",
  denied: "Not allowed"
}
let shown

const tell = (state, message, status) => {
  setText(element("state-text"), state === "live" && latest !== undefined ? `Live, ${time(latest.at)}` : states[state])
  if (state === shown) return
  if (shown !== undefined && shown !== "connecting") say(states[state])
  shown = state
  setAttribute(element("state"), "data-state", state)
  setAttribute(document.body, "data-stale", state === "live" ? undefined : "true")
  const banner = element("banner")
  const words = {
    away: `${message} What is shown is from the last look.`,
    lost: `${message} Trying again; what is shown is from the last look.`,
    denied: status === 401 ? withoutToken : message
  }[state]
  setText(banner, words ?? "")
  show(banner, words !== undefined)
  if (state === "denied") {
    setBrought(false)
    askForToken()
  } else if (state === "live") learnWhoBringsIt()
}

const withoutToken = "This worker shows nothing without the token."

const askForToken = async () => {
  const other = document.querySelector("dialog")
  // One question at a time.
  if (other !== null) await new Promise((resolve) => other.addEventListener("close", resolve, { once: true }))
  if (shown === "denied") await signIn(withoutToken)
}

let isDrawing = false
const look = (overview) => {
  const isFirst = latest === undefined
  latest = overview
  meet(overview.workers.map(({ member }) => member))
  take(overview)
  tell("live")
  if (isFirst) element("view").replaceChildren(current.element)
  if (isDrawing) return
  isDrawing = true
  requestAnimationFrame(() => {
    isDrawing = false
    draw()
  })
}

// ------------------------------------------------------------------------------------------------------------ keyboard

const tokenButton = element("sign-in")
/** The browser has asked for the token before it opened this page, and brings it with each request. */
let isBrought = false
const enter = () => {
  if (session.token !== undefined) signOut()
  else if (isBrought) announce("This browser has the token already, and forgets it when it is closed.")
  else signIn()
}
const showToken = () => {
  setText(tokenButton, session.token === undefined ? "Sign in" : "Sign out")
  show(tokenButton, session.token !== undefined || !isBrought)
}
const setBrought = (brought) => {
  isBrought = brought
  showToken()
}
const learnWhoBringsIt = async () => setBrought(session.token === undefined && (await needsToken()))

const keys = [
  ...views.map(({ name, path }, at) => [
    String(at + 1),
    name,
    () => links.find((link) => link.path === path).link.click()
  ]),
  ["/", "The first field of the view", () => document.querySelector("#view input[type=search], #view select")?.focus()],
  ["s", "Sign in or out", enter],
  ["t", "Theme", nextTheme],
  ["?", "This help", () => explainKeys(keys)]
]

startTheme()
showToken()
session.onChange(() => {
  showToken()
  live.again()
})
tokenButton.addEventListener("click", enter)
element("help").addEventListener("click", () => explainKeys(keys))
element("skip").addEventListener("click", () => element("main").focus())
listenToKeys(keys)
window.addEventListener("hashchange", visit)
go()
const live = follow({ overview: look, state: tell })
