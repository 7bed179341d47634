import { createRouter, createWebHashHistory } from 'vue-router'

import { session } from './session'

export const router = createRouter({
  history: createWebHashHistory(),
  routes: [
    { path: '/sign-in', component: () => import('./views/SignIn.vue'), meta: { open: true } },
    { path: '/', component: () => import('./views/Viewing.vue') },
    { path: '/archive', component: () => import('./views/Archive.vue') },
    { path: '/neighbours', component: () => import('./views/Neighbours.vue') },
    { path: '/:rest(.*)', redirect: '/' },
  ],
})

router.beforeEach(async (to) => {
  if (to.meta.open) return true
  return (await session.known()) ? true : { path: '/sign-in', query: { next: to.fullPath } }
})
