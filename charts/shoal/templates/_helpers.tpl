{{/* Name of the objects; -authority and -minio are added to it. */}}
{{- define "shoal.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Name of cluster-wide objects: two releases may have one name in two namespaces. */}}
{{- define "shoal.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "shoal.fullname" .) }}
{{- end }}

{{/* The release as a label's value, which holds at most 63 characters. */}}
{{- define "shoal.instance" -}}
{{- $whole := printf "%s.%s" .Release.Namespace .Release.Name }}
{{- if gt (len $whole) 63 }}
{{- printf "%s-%s" ($whole | trunc 52 | trimAll "-.") ($whole | sha256sum | trunc 10) }}
{{- else }}
{{- $whole }}
{{- end }}
{{- end }}

{{/* First part of the bucket's keys: unlike in every cluster and release, the same after a reinstall. */}}
{{- define "shoal.clusterId" -}}
{{- if .Values.clusterId }}
{{- .Values.clusterId }}
{{- else }}
{{- $system := lookup "v1" "Namespace" "" "kube-system" }}
{{- if $system }}
{{- printf "%s/%s" $system.metadata.uid (include "shoal.instance" .) | sha256sum | trunc 12 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "shoal.selectorLabels" -}}
app.kubernetes.io/name: {{ include "shoal.fullname" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "shoal.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: shoal
{{- end }}

{{- define "shoal.labels" -}}
{{ include "shoal.selectorLabels" . }}
{{ include "shoal.commonLabels" .root }}
{{- end }}

{{/* The definitions are shared: no label tells one release from another. */}}
{{- define "shoal.crdLabels" -}}
app.kubernetes.io/part-of: shoal
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* "yes" unless another release, or somebody by hand, brought the definition. */}}
{{- define "shoal.ownsCrd" -}}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name }}
{{- if not $found }}yes
{{- else }}
{{- $notes := default dict $found.metadata.annotations }}
{{- $name := get $notes "meta.helm.sh/release-name" }}
{{- $namespace := get $notes "meta.helm.sh/release-namespace" }}
{{- if and (eq $name .root.Release.Name) (eq $namespace .root.Release.Namespace) }}yes{{ end }}
{{- end }}
{{- end }}

{{/* An image of the form {registry, repository, tag, digest}. */}}
{{- define "shoal.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry }}
{{- $name := ternary .image.repository (printf "%s/%s" $registry .image.repository) (empty $registry) }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{/* An image given as text: its registry is what stands before the first slash and has a dot or colon. */}}
{{- define "shoal.mirrored" -}}
{{- if .root.Values.global.imageRegistry }}
{{- $rest := regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" .image "" }}
{{- printf "%s/%s" .root.Values.global.imageRegistry $rest }}
{{- else }}
{{- .image }}
{{- end }}
{{- end }}

{{- define "shoal.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "shoal.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "shoal.minioName" -}}
{{- printf "%s-minio" (include "shoal.fullname" .) }}
{{- end }}

{{- define "shoal.minioSecret" -}}
{{- default (include "shoal.minioName" .) .Values.minio.auth.existingSecret }}
{{- end }}

{{/* The Secret with the default bucket's key, in the release's namespace. */}}
{{- define "shoal.bucketSecret" -}}
{{- if .Values.minio.enabled }}{{ include "shoal.minioSecret" . }}{{ else }}{{ .Values.storage.secretName }}{{ end }}
{{- end }}

{{/* The Secret that users are told of. */}}
{{- define "shoal.userSecret" -}}
{{- if .Values.storage.userSecretName }}
{{- .Values.storage.userSecretName }}
{{- else if and .Values.minio.enabled .Values.minio.userSecretNamespaces }}
{{- include "shoal.minioName" . }}
{{- end }}
{{- end }}

{{- define "shoal.minioEndpoint" -}}
{{- printf "http://%s.%s.svc:%v" (include "shoal.minioName" .) .Release.Namespace .Values.minio.service.port }}
{{- end }}

{{/* Where helm test and the docs' first job run. */}}
{{- define "shoal.firstNamespace" -}}
{{- if .Values.watchNamespaces }}{{ first .Values.watchNamespaces }}{{ else }}{{ .Release.Namespace }}{{ end }}
{{- end }}

{{/* Restricted Pod security, for every container of ours. */}}
{{- define "shoal.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "shoal.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The operator's settings (SHOAL_OP_*), for itself and for the clean-up. */}}
{{- define "shoal.env" -}}
{{- $own := include "shoal.ownEnv" . }}
{{- $own }}
{{- range .Values.operator.extraEnv }}
{{- if contains (printf "{name: %s," .name) $own }}
{{- fail (printf "operator.extraEnv: the chart sets %s itself, from another of its values: set that one" .name) }}
{{- end }}
{{- end }}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "shoal.ownEnv" -}}
{{- $images := dict }}
{{- range $version, $image := .Values.workers.pythonImages }}
{{- $_ := set $images $version (include "shoal.mirrored" (dict "root" $ "image" $image)) }}
{{- end }}
{{- $minio := .Values.minio.enabled }}
{{- $inside := .Values.storage.endpointInCluster }}
{{- if $minio }}{{ $inside = include "shoal.minioEndpoint" . }}{{ end }}
- {name: SHOAL_OP_NAMESPACE, value: {{ .Release.Namespace | quote }}}
- {name: SHOAL_OP_INSTANCE, value: {{ include "shoal.instance" . | quote }}}
- {name: SHOAL_OP_CLUSTER_ID, value: {{ include "shoal.clusterId" . | quote }}}
- {name: SHOAL_OP_WATCH_NAMESPACES, value: {{ join "," .Values.watchNamespaces | quote }}}
- {name: SHOAL_OP_SERVICE_NAME, value: {{ include "shoal.fullname" . | quote }}}
- {name: SHOAL_OP_PORT, value: {{ .Values.operator.port | quote }}}
- {name: SHOAL_OP_HEALTH_PORT, value: {{ .Values.operator.healthPort | quote }}}
- {name: SHOAL_OP_DEFAULT_BUCKET, value: {{ ternary .Values.minio.bucket .Values.storage.bucket $minio | quote }}}
- {name: SHOAL_OP_DEFAULT_ENDPOINT, value: {{ ternary (default $inside .Values.minio.endpoint) .Values.storage.endpoint $minio | quote }}}
- {name: SHOAL_OP_DEFAULT_ENDPOINT_IN_CLUSTER, value: {{ $inside | quote }}}
- {name: SHOAL_OP_DEFAULT_REGION, value: {{ .Values.storage.region | quote }}}
- {name: SHOAL_OP_DEFAULT_PREFIX, value: {{ .Values.storage.prefix | quote }}}
- {name: SHOAL_OP_CREATE_BUCKET, value: {{ or $minio .Values.storage.createBucket | quote }}}
- {name: SHOAL_OP_BUCKET_SECRET, value: {{ include "shoal.bucketSecret" . | quote }}}
- {name: SHOAL_OP_USER_SECRET_NAME, value: {{ include "shoal.userSecret" . | quote }}}
- {name: SHOAL_OP_AZURE_VAULT, value: {{ .Values.secrets.azureVault | quote }}}
- {name: SHOAL_OP_SECRET_STORE, value: {{ with .Values.secrets.secretStore }}{{ ternary (printf "%s/%s" .kind .name) "" (ne .name "") | quote }}{{ end }}}
- {name: SHOAL_OP_PYTHON_IMAGES, value: {{ $images | toJson | quote }}}
- {name: SHOAL_OP_DEFAULT_IMAGE, value: {{ include "shoal.mirrored" (dict "root" . "image" .Values.workers.defaultImage) | quote }}}
- {name: SHOAL_OP_IMAGE_PULL_SECRETS, value: {{ join "," .Values.workers.imagePullSecrets | quote }}}
- {name: SHOAL_OP_MAX_PARALLELISM, value: {{ .Values.workers.maxParallelism | quote }}}
- {name: SHOAL_OP_IMAGE_PULL_SECONDS, value: {{ .Values.workers.imagePullSeconds | quote }}}
- {name: SHOAL_OP_CONTACT_SECONDS, value: {{ .Values.workers.contactSeconds | quote }}}
- {name: SHOAL_OP_START_DEADLINE_SECONDS, value: {{ .Values.workers.startDeadlineSeconds | quote }}}
- {name: SHOAL_OP_WORKER_CPU, value: {{ .Values.workers.cpu | quote }}}
- {name: SHOAL_OP_WORKER_CPU_LIMIT, value: {{ .Values.workers.cpuLimit | quote }}}
- {name: SHOAL_OP_WORKER_MEMORY, value: {{ .Values.workers.memory | quote }}}
- {name: SHOAL_OP_BUILD_VARIABLES, value: {{ .Values.environments.variables | toJson | quote }}}
- {name: SHOAL_OP_DEBIAN_SOURCES, value: {{ join "\n" .Values.environments.debianSources | quote }}}
- {name: SHOAL_OP_KNOWN_HOSTS, value: {{ join "\n" .Values.environments.knownHosts | quote }}}
- {name: SHOAL_OP_BUILD_MEMORY, value: {{ .Values.environments.memory | quote }}}
- {name: SHOAL_OP_BUILD_SECONDS, value: {{ .Values.environments.deadlineSeconds | quote }}}
- {name: SHOAL_OP_LOG_LEVEL, value: {{ .Values.operator.logLevel | quote }}}
{{- end }}
