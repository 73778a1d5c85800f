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

{{- define "keyreeve.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "keyreeve.labels" -}}
{{ include "keyreeve.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: keyreeve
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "keyreeve.image" -}}
{{- $name := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "keyreeve.services" -}}
{{- $services := list "ca" -}}
{{- if .Values.membership.enabled }}{{ $services = append $services "membership" }}{{ end -}}
{{- if .Values.credentials.enabled }}{{ $services = append $services "credentials" }}{{ end -}}
{{- $services | toJson -}}
{{- end -}}

{{- define "keyreeve.ports" -}}
{{- $ports := dict "ca" 7443 "membership" 7444 "credentials" 7445 -}}
{{- index $ports . -}}
{{- end -}}

{{- define "keyreeve.check" -}}
{{- if not (has .Values.profile (list "dev" "production")) }}{{ fail "profile: dev or production is required" }}{{ end -}}
{{- if eq .Values.profile "production" -}}
{{- if not .Values.database.existingSecret }}{{ fail "profile production needs database.existingSecret" }}{{ end -}}
{{- if not .Values.keys.existingSecret }}{{ fail "profile production needs keys.existingSecret" }}{{ end -}}
{{- if .Values.persistence.ephemeral }}{{ fail "profile production keeps its state: persistence.ephemeral is for dev" }}{{ end -}}
{{- else if or (gt (int .Values.ca.replicas) 1) (gt (int .Values.membership.replicas) 1) -}}
{{ fail "several replicas need profile production: SQLite has one writer" }}
{{- end -}}
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
