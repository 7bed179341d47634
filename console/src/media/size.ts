const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

/** Bytes in words, with three digits at the most: 1536 is "1.5 KiB". */
export function sizeText(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit += 1
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1
  return `${value.toFixed(digits).replace(/\.0$/, '')} ${UNITS[unit]}`
}
