/** Names of topics, processors, tables and members: they become parts of keys, so nothing else may get through. */
import { Misconfigured } from "../Errors.ts"

const pattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/

export const isName = (name: string): boolean => pattern.test(name)

/** The name itself, or a thrown `Misconfigured` that says what a name may be. */
export const checkName = (kind: string, name: string): string => {
  if (typeof name !== "string" || !isName(name)) {
    throw invalid(
      `${kind} name ${JSON.stringify(name)}: use 1 to 128 letters, digits, ".", "_" or "-", beginning with a letter or digit`
    )
  }
  return name
}

export const invalid = (detail: string): Misconfigured => new Misconfigured({ reason: "InvalidOption", detail })

/** A whole number of at least `least`, or a thrown `Misconfigured` that names the option. */
export const checkCount = (option: string, value: number, least = 1, most = Number.MAX_SAFE_INTEGER): number => {
  if (!Number.isSafeInteger(value) || value < least || value > most) {
    const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`
    throw invalid(`${option} must be a whole number ${range}, not ${value}`)
  }
  return value
}
