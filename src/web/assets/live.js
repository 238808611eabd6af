/**
 * The server's looks, as they come: server-sent events, read by hand so that the token can go along. It connects again by
 * itself, and lets go while the page is not seen, which costs the engine nothing then.
 */
import { Problem, request } from "./api.js"

/** A look may take the server five seconds; with nothing for so long, the connection is dead. */
const patienceMillis = 15_000
const pauses = [500, 1_000, 2_000, 5_000]
const hiddenMillis = 30_000

const parse = (text) => {
  let name = "message"
  const data = []
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7)
    else if (line.startsWith("data: ")) data.push(line.slice(6))
  }
  return { name, data: data.length === 0 ? undefined : JSON.parse(data.join("\n")) }
}

const listen = async (signal, heard) => {
  const response = await request("/api/events", { signal })
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ""
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const events = (rest + value).split("\n\n")
    rest = events.pop()
    for (const event of events) heard(parse(event))
  }
}

/**
 * Listens from now on. `state(name, message, status)` hears `connecting`, `live`, `away` (the engine does not answer the worker),
 * `lost` (the worker does not answer) and `denied`.
 */
export const follow = ({ overview, state }) => {
  let failures = 0
  let current
  let timer

  const run = async () => {
    clearTimeout(timer)
    const connection = new AbortController()
    current = connection
    let watchdog
    const watch = () => {
      clearTimeout(watchdog)
      watchdog = setTimeout(() => connection.abort(), patienceMillis)
    }
    let message = "The worker that serves this page has stopped."
    let status
    try {
      watch()
      await listen(connection.signal, ({ data, name }) => {
        watch()
        failures = 0
        if (name === "overview") {
          state("live")
          overview(data)
        } else if (name === "problem") state("away", data.message)
      })
    } catch (error) {
      message = error instanceof Problem ? error.message : "The connection was lost."
      status = error instanceof Problem ? error.status : undefined
    }
    clearTimeout(watchdog)
    if (current !== connection) return
    state(status === 401 || status === 403 ? "denied" : "lost", message, status)
    timer = setTimeout(run, pauses[Math.min(failures++, pauses.length - 1)])
  }

  const stop = () => {
    clearTimeout(timer)
    const connection = current
    current = undefined
    connection?.abort()
  }

  let hidden
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden)
    if (document.visibilityState === "hidden") hidden = setTimeout(stop, hiddenMillis)
    else if (current === undefined) run()
  })
  const again = () => {
    failures = 0
    stop()
    run()
  }
  window.addEventListener("online", again)
  run()
  return { again }
}
