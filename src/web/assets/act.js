/**
 * Changing something: a question where it destroys or cannot be taken back, the token where it is missing or wrong, and
 * words about how it went.
 */
import { session } from "./api.js"
import { confirm } from "./dialog.js"
import { announce } from "./notices.js"
import { signIn } from "./signIn.js"

const attempt = async (run) => {
  try {
    return { value: await run() }
  } catch (problem) {
    return { problem }
  }
}

/** `run` asks the server, `done(value)` says what has happened. True if it has. */
export const act = async ({ ask, done, run }) => {
  if (ask !== undefined && (await confirm(ask)) !== true) return false
  let { problem, value } = await attempt(run)
  while (problem?.status === 401) {
    const why =
      session.token === undefined
        ? "This changes something, so it needs the token."
        : "The token is not right any more."
    if (!(await signIn(why))) {
      announce("Nothing was changed: it needs the token.", { bad: true })
      return false
    }
    ;({ problem, value } = await attempt(run))
  }
  if (problem !== undefined) {
    announce(`Nothing was changed: ${problem.message}`, { bad: true })
    return false
  }
  announce(done(value))
  return true
}
