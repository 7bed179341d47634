// When a picture that stopped is asked for again: soon, then ever later, and not without end.

export const MAX_TRIES = 6
/** A picture that stood so long is well again: what failed before no longer counts. */
export const STEADY_MS = 20_000
const FIRST_MS = 2_000
const LONGEST_MS = 30_000
const FINAL_STATUS = [400, 401, 403, 404, 422, 501]

/** How long to wait after so many failures in a row; null when that was the last try. */
export function delayMs(failures: number): number | null {
  if (failures < 1 || failures > MAX_TRIES) return null
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** (failures - 1))
}

/** Whether asking again could help: a refusal stays one, a device that was silent may speak. */
export function mayHelp(status: number): boolean {
  return !FINAL_STATUS.includes(status)
}
