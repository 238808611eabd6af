/**
 * A letter and a colour for each worker: the letter says who it is where colours cannot be told apart. They are given in
 * the order in which workers are first seen, and stay.
 */

const colours = 10
const known = new Map()

const letterOf = (index) => {
  const letter = String.fromCharCode(65 + (index % 26))
  return index < 26 ? letter : letter + Math.floor(index / 26)
}

/** Meet them by name, so that pages that were opened at the same time agree. */
export const meet = (members) => {
  for (const member of members.toSorted()) {
    if (!known.has(member)) known.set(member, known.size)
  }
}

/** `{ letter, tone }` of a member; the tone is the end of a class name. */
export const markOf = (member) => {
  meet([member])
  const index = known.get(member)
  return { letter: letterOf(index), tone: String(index % colours) }
}
