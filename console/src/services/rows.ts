// What the page of the service directory makes of an entry.

import type { Service, ServiceState } from '../api/types'

export const STATE_TYPES: Record<ServiceState, 'success' | 'warning' | 'info' | 'danger'> = {
  running: 'success',
  degraded: 'warning',
  'not-built': 'info',
  withdrawn: 'danger',
}

/** Whether an entry can be called today by who looks at it. */
export function isCallable(service: Service): boolean {
  return service.granted && (service.state === 'running' || service.state === 'degraded')
}

/** Where a contract can be read, or null when it is no address that a browser may follow. */
export function contractLink(service: Service): string | null {
  return /^(\/(?!\/)|https?:\/\/)/.test(service.contract) ? service.contract : null
}

/** Codes of services of others begin so; the platform refuses others. */
export const EXTERNAL_PREFIX = 'ext-'

export function isExternalCode(text: string): boolean {
  return text.length <= 64 && text.length > EXTERNAL_PREFIX.length && /^ext-[A-Za-z0-9.-]+$/.test(text)
}
