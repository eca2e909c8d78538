{{/* What the operator may do in a namespace that it serves. */}}
{{- define "shoal.servedRules" -}}
- apiGroups: [shoal.dev]
  resources: [mapjobs]
  verbs: [get, list, watch, delete]
# A deployment's packages are installed by a job.
- apiGroups: [shoal.dev]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# The deployment inside a job becomes an object of its own, which goes when nobody needs it.
- apiGroups: [shoal.dev]
  resources: [deployments]
  verbs: [get, list, watch, create, delete]
- apiGroups: [shoal.dev]
  resources: [jobs/status, mapjobs/status, deployments/status]
  verbs: [patch]
# Owner references that block their owner's deletion, where the cluster checks them.
- apiGroups: [shoal.dev]
  resources: [jobs/finalizers, mapjobs/finalizers, deployments/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
# The ConfigMap by which the SDK finds bucket and images. A create can't be limited to a name.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [shoal]
  verbs: [get, patch, delete]
{{- $secrets := concat .Values.storage.secretNames (list (include "shoal.userSecret" .)) | compact | uniq }}
{{- with $secrets }}
# Keys of buckets that jobs bring along (spec.storage.secretName); no other Secret.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ toJson . }}
  verbs: [get]
{{- end }}
{{- end }}
