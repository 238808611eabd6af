/**
 * Asking the server. What changes something needs the token: it is kept for this tab only (`sessionStorage`) and travels in
 * a header, never in an address.
 */

const kept = "millrace-token"
const listeners = new Set()

export const session = {
  get token() {
    return sessionStorage.getItem(kept) ?? undefined
  },
  set token(token) {
    if (token === undefined) sessionStorage.removeItem(kept)
    else sessionStorage.setItem(kept, token)
    for (const listener of listeners) listener()
  },
  onChange: (listener) => void listeners.add(listener)
}

/** What the server says, as a sentence that stands alone. */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".")

/** An answer that is none: `status` is 0 where the server could not be reached. */
export class Problem extends Error {
  constructor(status, message) {
    super(sentence(message))
    this.status = status
  }
}

const headersOf = (body, token) => ({
  ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  ...(body === undefined ? {} : { "content-type": "application/json" })
})

/** The response; fails with a `Problem` that says in one sentence what is wrong. */
export const request = async (path, { body, method = "GET", signal, token = session.token } = {}) => {
  let response
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: headersOf(body, token),
      body: body === undefined ? undefined : JSON.stringify(body)
    })
  } catch (error) {
    if (signal?.aborted) throw error
    throw new Problem(0, "The worker that serves this page does not answer.")
  }
  if (response.ok) return response
  const said = await response.json().catch(() => undefined)
  throw new Problem(response.status, said?.message ?? `The server answered with status ${response.status}.`)
}

/** Whether looking needs the token too: without what the browser adds by itself, it is refused. */
export const needsToken = async () => {
  const response = await fetch("/health/live", { credentials: "omit" }).catch(() => undefined)
  return response?.status === 401
}

export const get = async (path, options) => (await request(`/api${path}`, options)).json()

/** What it gives, or undefined. */
export const post = async (path, body, options) => {
  const response = await request(`/api${path}`, { ...options, method: "POST", body })
  return response.status === 204 ? undefined : response.json()
}

/** A path of names that may hold anything. */
export const path = (strings, ...names) =>
  strings.reduce((text, part, at) => text + encodeURIComponent(names[at - 1]) + part)
