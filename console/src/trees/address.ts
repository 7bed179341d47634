// Where in a tree somebody stands, as text in an address: the branches from the root down, the last one chosen.

const SEPARATOR = '.'
/** The platform cuts a tree at this depth. */
const MAX_DEPTH = 16

export function pathOf(text: string): string[] {
  return text.split(SEPARATOR).filter(Boolean).slice(0, MAX_DEPTH)
}

export function textOf(path: readonly string[]): string {
  return path.join(SEPARATOR)
}

/** Words for how many of a branch's devices are online; empty when it was not counted. */
export function counts(branch: { count?: number | null; online?: number | null }): string {
  if (branch.count === undefined || branch.count === null) return ''
  return `${branch.online ?? 0}/${branch.count}`
}
