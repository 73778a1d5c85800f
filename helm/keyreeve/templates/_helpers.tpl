{{- define "keyreeve.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "keyreeve.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "keyreeve.release" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "keyreeve.selector" -}}
{{ include "keyreeve.release" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "keyreeve.labels" -}}
{{ include "keyreeve.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: keyreeve
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with merge (dict) .root.Values.commonLabels .root.Values.global.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "keyreeve.image" -}}
{{- $name := .Values.image.repository -}}
{{- with default .Values.global.imageRegistry .Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* The services that are installed, in the order in which they are upgraded. */ -}}
{{- define "keyreeve.services" -}}
{{- $services := list "ca" -}}
{{- if .Values.credentials.enabled }}{{ $services = append $services "credentials" }}{{ end -}}
{{- if .Values.membership.enabled }}{{ $services = append $services "membership" }}{{ end -}}
{{- if .Values.gateway.enabled }}{{ $services = append $services "gateway" }}{{ end -}}
{{- $services | toJson -}}
{{- end -}}

{{- define "keyreeve.ports" -}}
{{- $ports := dict "ca" 7443 "membership" 7444 "credentials" 7445 "gateway" 7446 -}}
{{- index $ports . -}}
{{- end -}}

{{- /* Those of the installed services that have a database, keys and an audit log of their own. */ -}}
{{- define "keyreeve.stores" -}}
{{- without (include "keyreeve.services" . | fromJsonArray) "gateway" | toJson -}}
{{- end -}}

{{- define "keyreeve.replicas" -}}
{{- $own := index .root.Values .service -}}
{{- if kindIs "invalid" $own.replicas -}}
{{- eq .root.Values.profile "production" | ternary 2 1 -}}
{{- else -}}
{{- int $own.replicas -}}
{{- end -}}
{{- end -}}

{{- /* What the pools of connections are sized for. */ -}}
{{- define "keyreeve.mostReplicas" -}}
{{- $own := index .root.Values .service -}}
{{- if and $own.autoscaling $own.autoscaling.enabled -}}
{{- int $own.autoscaling.maxReplicas -}}
{{- else -}}
{{- include "keyreeve.replicas" . -}}
{{- end -}}
{{- end -}}

{{- define "keyreeve.vaultNamespace" -}}
{{- default (printf "%s-vault-keys" ((include "keyreeve.namespace" .) | trunc 52 | trimSuffix "-")) .Values.vaultKeys.namespace -}}
{{- end -}}

{{- define "keyreeve.trustBundleSigner" -}}
{{- $served := .Capabilities.APIVersions.Has "certificates.k8s.io/v1/ClusterTrustBundle" -}}
{{- if kindIs "invalid" .Values.clusterTrustBundle.enabled | ternary $served .Values.clusterTrustBundle.enabled -}}
{{- default (printf "%s/estate" .Values.trustDomain) .Values.clusterTrustBundle.signerName -}}
{{- end -}}
{{- end -}}

{{- define "keyreeve.check" -}}
{{- $root := . -}}
{{- if not (has .Values.profile (list "dev" "production")) }}{{ fail "profile: dev or production is required" }}{{ end -}}
{{- if eq .Values.profile "production" -}}
{{- if not .Values.database.existingSecret }}{{ fail "profile production needs database.existingSecret" }}{{ end -}}
{{- if not .Values.kek.existingSecret }}{{ fail "profile production needs kek.existingSecret" }}{{ end -}}
{{- if .Values.persistence.ephemeral }}{{ fail "profile production keeps its state: persistence.ephemeral is for dev" }}{{ end -}}
{{- if eq (include "keyreeve.vaultNamespace" .) (include "keyreeve.namespace" .) }}{{ fail "vaultKeys.namespace holds nothing but the vault's keys: it cannot be the release's" }}{{ end -}}
{{- else -}}
{{- range $service := include "keyreeve.stores" . | fromJsonArray -}}
{{- if gt (int (include "keyreeve.replicas" (dict "root" $root "service" $service))) 1 }}{{ fail "several replicas need profile production: SQLite has one writer" }}{{ end -}}
{{- end -}}
{{- if .Values.ca.autoscaling.enabled }}{{ fail "ca.autoscaling needs profile production: SQLite has one writer" }}{{ end -}}
{{- if .Values.gateway.autoscaling.enabled }}{{ fail "gateway.autoscaling needs profile production: there is one replica of what it calls" }}{{ end -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not (and .Values.membership.enabled .Values.credentials.enabled)) }}{{ fail "gateway.enabled needs membership.enabled and credentials.enabled" }}{{ end -}}
{{- if and .Values.gatewayApi.enabled (not (and .Values.gatewayApi.domain .Values.gatewayApi.parentRefs)) }}{{ fail "gatewayApi needs domain and parentRefs" }}{{ end -}}
{{- end -}}

{{- define "keyreeve.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "keyreeve.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "keyreeve.podLabels" -}}
{{ include "keyreeve.labels" . }}
{{- with .root.Values.pods.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* What all pods have in common; `.account` is the ServiceAccount. */ -}}
{{- define "keyreeve.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "keyreeve.podSecurity" .root | nindent 2 }}
{{- with concat .root.Values.global.imagePullSecrets .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.pods.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default .root.Values.global.priorityClassName .root.Values.pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- /* What all containers have in common. */ -}}
{{- define "keyreeve.container" -}}
image: {{ include "keyreeve.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "keyreeve.containerSecurity" . | nindent 2 }}
{{- end -}}

{{- /* libpq verifies the server's certificate and name; with `database.verify_tls` a URL that says otherwise is refused. */ -}}
{{- define "keyreeve.databaseEnvironment" -}}
- {name: PGSSLMODE, value: verify-full}
- {name: PGSSLROOTCERT, value: /etc/keyreeve/database/ca.crt}
{{- end -}}

{{- /* The files with the database's URLs for one service: settings, by name. */ -}}
{{- define "keyreeve.databaseItems" -}}
- {key: {{ .service }}, path: database.url}
{{- if .root.Values.database.pooler }}
- {key: {{ .service }}-direct, path: database.direct_url}
{{- end }}
{{- end -}}

{{- define "keyreeve.anyAddress" -}}
{{ .Values.ipv6 | ternary "::" "0.0.0.0" }}
{{- end -}}

{{- define "keyreeve.enroll" -}}
{{ include "keyreeve.fullname" . }}-enroll.{{ include "keyreeve.namespace" . }}.svc:7483
{{- end -}}

{{- /* Of the tokens with which pods enroll: installations in one cluster take none of each other's, even with one trust domain. */ -}}
{{- define "keyreeve.audience" -}}
keyreeve:{{ .Values.trustDomain }}:{{ include "keyreeve.namespace" . }}/{{ include "keyreeve.fullname" . }}
{{- end -}}

{{- define "keyreeve.bundleVolumes" -}}
- name: bundle
  configMap:
    name: {{ include "keyreeve.fullname" . }}-bundle
    items: [{key: control.pem, path: control.pem}]
- name: token
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: "{{ include "keyreeve.audience" . }}", expirationSeconds: 600}
{{- end -}}

{{- /* Whether the chart's test joins two servers; they have accounts that may enroll as members. */ -}}
{{- define "keyreeve.testServers" -}}
{{- $wanted := kindIs "invalid" .Values.check.members | ternary (eq .Values.profile "dev") .Values.check.members -}}
{{- if and $wanted .Values.membership.enabled .Values.credentials.enabled -}}
{{- list "member-1" "member-2" | toJson -}}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{- /* A pod that checks the installation: by `.module`, with `.arguments`, as `.account`. */ -}}
{{- define "keyreeve.checkPod" -}}
{{ include "keyreeve.pod" (dict "root" .root "account" (printf "%s-%s" (include "keyreeve.fullname" .root) .account)) }}
restartPolicy: {{ default "Never" .restartPolicy }}
containers:
  - name: check
    {{- include "keyreeve.container" .root | nindent 4 }}
    args:
      - keyreeve.cli.installation.{{ .module }}
      - --enroll={{ include "keyreeve.enroll" .root }}
      - --trust-domain={{ .root.Values.trustDomain }}
      - --wait={{ .root.Values.check.seconds }}
      {{- range .arguments }}
      - {{ . }}
      {{- end }}
    {{- if eq .module "array_check" }}
    env:
      - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    ports:
      - {name: peer, containerPort: 5427}
    {{- end }}
    resources:
      requests: {cpu: 50m, memory: 256Mi}
      limits: {memory: 256Mi}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: bundle, mountPath: /etc/keyreeve/bundle, readOnly: true}
      - {name: token, mountPath: /var/run/secrets/keyreeve, readOnly: true}
volumes:
  - {name: tmp, emptyDir: {}}
  {{- include "keyreeve.bundleVolumes" .root | nindent 2 }}
{{- end -}}

{{- /* One of the two servers of the chart's test: `.part` is `lead` or `follow`. */ -}}
{{- define "keyreeve.testServer" -}}
{{- $namespace := include "keyreeve.namespace" .root -}}
{{- $name := include "keyreeve.fullname" .root -}}
{{- $servers := include "keyreeve.testServers" .root | fromJsonArray -}}
{{- $own := eq .part "lead" | ternary (first $servers) (last $servers) -}}
{{- $other := eq .part "lead" | ternary (last $servers) (first $servers) -}}
{{- $arguments := list .part
  (printf "--name=%s-%s.%s" $name $own $namespace)
  (printf "--other=%s-%s.%s" $name $other $namespace)
  (.root.Values.ipv6 | ternary "--address=[$(POD_IP)]:5427" "--address=$(POD_IP):5427")
  (printf "--membership=%s-membership.%s.svc:7444" $name $namespace)
  (printf "--credentials=%s-credentials.%s.svc:7445" $name $namespace) -}}
{{ include "keyreeve.checkPod" (dict "root" .root "account" $own "module" "array_check" "arguments" $arguments "restartPolicy" .restartPolicy) }}
{{- end -}}
