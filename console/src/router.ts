import { createRouter, createWebHashHistory } from 'vue-router'

import { mayUse, offered, pageOf } from './navigation/pages'
import { session } from './session'

export const router = createRouter({
  history: createWebHashHistory(),
  routes: [
    { path: '/sign-in', component: () => import('./views/SignIn.vue'), meta: { open: true } },
    { path: '/', component: () => import('./views/Viewing.vue') },
    { path: '/wall', component: () => import('./views/Wall.vue') },
    { path: '/trees/:kind(division|group|platform)?', component: () => import('./views/Trees.vue') },
    { path: '/archive', component: () => import('./views/Archive.vue') },
    { path: '/map', component: () => import('./views/MapSelect.vue') },
    { path: '/alarms', component: () => import('./views/Alarms.vue') },
    { path: '/files', component: () => import('./views/Files.vue') },
    { path: '/services', component: () => import('./views/Services.vue') },
    { path: '/signalling', component: () => import('./views/Signalling.vue') },
    { path: '/signalling/device/:deviceId', component: () => import('./views/DeviceSignalling.vue') },
    { path: '/neighbours', component: () => import('./views/Neighbours.vue') },
    { path: '/admission', component: () => import('./views/Admission.vue') },
    { path: '/media', component: () => import('./views/Media.vue') },
    { path: '/keys', component: () => import('./views/Keys.vue') },
    { path: '/audit', component: () => import('./views/Audit.vue') },
    { path: '/no-access', component: () => import('./views/NoAccess.vue') },
    { path: '/:rest(.*)', redirect: '/' },
  ],
})

router.beforeEach(async (to) => {
  if (to.meta.open) return true
  if (!(await session.known())) return { path: '/sign-in', query: { next: to.fullPath } }
  const page = pageOf(to.path)
  const held = session.state.user?.permissions ?? []
  if (page === undefined || mayUse(page, held)) return true
  // The first page is where everybody lands; another one was asked for and is refused in words.
  if (to.path === '/') return { path: offered(held)[0]?.path ?? '/no-access' }
  return { path: '/no-access', query: { page: page.name } }
})
