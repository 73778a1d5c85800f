{{- /* What the values may replace: addresses, as callers outside the cluster see them. */ -}}
{{- define "keyreeve.defaultSettings" -}}
{{- if eq .service "ca" -}}
{{- $host := printf "%s-ca.%s.svc" (include "keyreeve.fullname" .root) (include "keyreeve.namespace" .root) -}}
http_url: http://{{ $host }}:8080
enroll:
  address: {{ include "keyreeve.enroll" .root }}
  ca_address: {{ $host }}:7443
{{- if eq .root.Values.profile "production" }}
operators:
  two_persons: true
issuance:
  resume_needs_two: true
{{- end }}
{{- else if and (eq .service "credentials") .root.Values.membership.enabled -}}
vault:
  membership_address: {{ include "keyreeve.fullname" .root }}-membership.{{ include "keyreeve.namespace" .root }}.svc:{{ include "keyreeve.ports" "membership" }}
{{- end }}
{{- if and (ne .service "gateway") (eq .root.Values.profile "production") }}
# A copy outside the database: what the node collects of the pods' output.
audit:
  stdout: true
{{- end }}
{{- end -}}

{{- /* The settings of a service that the chart decides, whatever `settings` of the values says. */ -}}
{{- define "keyreeve.settings" -}}
{{- $root := .root -}}
{{- $service := .service -}}
{{- $name := include "keyreeve.fullname" $root -}}
{{- $production := eq $root.Values.profile "production" -}}
trust_domain: {{ $root.Values.trustDomain }}
state_directory: /var/lib/keyreeve/{{ $service }}
listen:
  host: "{{ include "keyreeve.anyAddress" $root }}"
  port: {{ include "keyreeve.ports" $service }}
  health_host: "{{ include "keyreeve.anyAddress" $root }}"
  health_port: 7453
metrics:
  host: "{{ include "keyreeve.anyAddress" $root }}"
  port: 7463
{{- if eq $service "gateway" }}
services:
  {{- range $other := list "membership" "credentials" }}
  {{ $other }}: ["{{ $name }}-{{ $other }}.{{ include "keyreeve.namespace" $root }}.svc:{{ include "keyreeve.ports" $other }}"]
  {{- end }}
legacy_file: /etc/keyreeve/settings/legacy.toml
{{- if $root.Values.gateway.ssh.port }}
ssh:
  host: "{{ include "keyreeve.anyAddress" $root }}"
  port: 7496
{{- end }}
{{- else if $production }}
database:
  migrate: never
  verify_tls: true
  replicas: {{ include "keyreeve.mostReplicas" (dict "root" $root "service" $service) }}
keys:
  file: /etc/keyreeve/keys/{{ $service }}
  mounted: true
  {{- if eq $service "ca" }}
  recovery_file: /etc/keyreeve/recovery/recovery.pem
  {{- end }}
{{- else }}
database:
  url: sqlite:///{{ $service }}.db
{{- end }}
{{- if eq $service "ca" }}
http:
  host: "{{ include "keyreeve.anyAddress" $root }}"
  port: 8080
bootstrap:
  allowed: {{ $root.Values.bootstrap.allowed }}
  {{- if $production }}
  secret: {{ include "keyreeve.namespace" $root }}/{{ $name }}-control-plane
  {{- end }}
enroll:
  host: "{{ include "keyreeve.anyAddress" $root }}"
  port: 7483
  kubernetes:
    audience: {{ include "keyreeve.audience" $root }}
    bundle: {{ include "keyreeve.namespace" $root }}/{{ $name }}-bundle
    {{- with include "keyreeve.trustBundleSigner" $root }}
    trust_bundle_signer: {{ . }}
    {{- end }}
    accounts:
      {{- range without (include "keyreeve.services" $root | fromJsonArray) "ca" }}
      {{ include "keyreeve.namespace" $root }}/{{ $name }}-{{ . }}: {{ . }}
      {{- end }}
      {{ include "keyreeve.namespace" $root }}/{{ $name }}-check: workload
      {{- range include "keyreeve.testServers" $root | fromJsonArray }}
      {{ include "keyreeve.namespace" $root }}/{{ $name }}-{{ . }}: member
      {{- end }}
      {{- range $root.Values.workloads }}
      {{ . }}: workload
      {{- end }}
{{- else }}
service_account:
  address: {{ include "keyreeve.enroll" $root }}
  bundle_file: /etc/keyreeve/bundle/control.pem
{{- end }}
{{- if and $production (eq $service "credentials") }}
vault:
  secrets:
    namespace: {{ include "keyreeve.vaultNamespace" $root }}
    root_key_file: /etc/keyreeve/keys/vault-root
{{- end }}
{{- end -}}
