"""Compile and run the Go, Node and Java snippets of docs/other-languages.md against a control plane.

The packages that they need come from the registries of their languages.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.control_plane import ControlPlane
from support.documents import ROOT, blocks_of
from support.programs import find_program

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

GO_TOOLS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1",
)
GO_MODULE = """module example.test/client

go 1.21

require (
	google.golang.org/grpc v1.67.1
	google.golang.org/protobuf v1.36.11
	keyreeve v0.0.0
)

replace keyreeve => ./gen
"""
GO_IMPORTS = """package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	cav1 "keyreeve/ca/v1"
)
"""
NODE_PACKAGES = ("@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.1")
GRPC_JAVA, PROTOBUF_JAVA = "1.62.2", "3.25.1"
JAVA_IMPORTS = """import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.util.concurrent.TimeUnit;
import keyreeve.ca.v1.ProfileServiceGrpc;
import keyreeve.ca.v1.ProfileServiceOuterClass.ListProfilesRequest;
import keyreeve.ca.v1.ProfileServiceOuterClass.ListProfilesResponse;

public class Client {
  public static void main(String[] arguments) throws Exception {
"""
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>example</groupId><artifactId>client</artifactId><version>1</version>
  <properties>
    <maven.compiler.source>17</maven.compiler.source><maven.compiler.target>17</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency><groupId>io.grpc</groupId><artifactId>grpc-netty-shaded</artifactId><version>{GRPC_JAVA}</version></dependency>
    <dependency><groupId>io.grpc</groupId><artifactId>grpc-protobuf</artifactId><version>{GRPC_JAVA}</version></dependency>
    <dependency><groupId>io.grpc</groupId><artifactId>grpc-stub</artifactId><version>{GRPC_JAVA}</version></dependency>
    <dependency><groupId>javax.annotation</groupId><artifactId>javax.annotation-api</artifactId><version>1.3.2</version></dependency>
  </dependencies>
  <build>
    <extensions><extension><groupId>kr.motd.maven</groupId><artifactId>os-maven-plugin</artifactId><version>1.7.1</version></extension></extensions>
    <plugins><plugin>
      <groupId>org.xolstice.maven.plugins</groupId><artifactId>protobuf-maven-plugin</artifactId><version>0.6.1</version>
      <configuration>
        <protoSourceRoot>{ROOT / "proto"}</protoSourceRoot>
        <protocArtifact>com.google.protobuf:protoc:{PROTOBUF_JAVA}:exe:${{os.detected.classifier}}</protocArtifact>
        <includes><include>keyreeve/ca/v1/profile_service.proto</include></includes>
        <pluginId>grpc-java</pluginId>
        <pluginArtifact>io.grpc:protoc-gen-grpc-java:{GRPC_JAVA}:exe:${{os.detected.classifier}}</pluginArtifact>
      </configuration>
      <executions><execution><goals><goal>compile</goal><goal>compile-custom</goal></goals></execution></executions>
    </plugin></plugins>
  </build>
</project>
"""


@pytest.fixture
def workplace(control_plane: ControlPlane, tmp_path: Path) -> Path:
    """A directory with the three files that a client needs."""
    for name in ("control-bundle.pem", "me.pem", "me.key"):
        (tmp_path / name).symlink_to(control_plane.state_directory.root / name)
    return tmp_path


def snippet(language: str, control_plane: ControlPlane) -> str:
    """The page's only block of a language, for the addresses of this control plane."""
    [block] = [each for each in blocks_of(ROOT / "docs/other-languages.md") if each.language == language]
    assert not block.no_run
    assert "127.0.0.1:7443" in block.text
    assert "ca.svc.dev.localhost" in block.text
    return block.text.replace("127.0.0.1:7443", control_plane.context.endpoint("ca"))


def run(*command: str, directory: Path, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=directory, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_lists_the_profiles(printed: str) -> None:
    assert {"profiles/server", "profiles/client"} <= set(printed.split())


def test_the_go_snippet_compiles_and_runs(control_plane: ControlPlane, workplace: Path) -> None:
    go, tools, generated = find_program("go"), workplace / "bin", workplace / "gen"
    for tool in GO_TOOLS:
        run(go, "install", tool, directory=workplace, GOBIN=str(tools), GOTOOLCHAIN="local", GOFLAGS="-mod=mod")
    generated.mkdir()
    (generated / "go.mod").write_text("module keyreeve\n\ngo 1.21\n")
    options = [f"--{kind}_{key}={value}" for kind in ("go", "go-grpc") for key, value in _go_options(generated)]
    protos = [str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto")]
    run(
        *(sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto"), *options, *protos),
        directory=ROOT / "proto",
        PATH=f"{tools}:{os.environ['PATH']}",
    )
    (workplace / "go.mod").write_text(GO_MODULE)
    (workplace / "main.go").write_text(f"{GO_IMPORTS}\nfunc main() {{\n{snippet('go', control_plane)}}}\n")
    run(go, "mod", "tidy", directory=workplace, GOTOOLCHAIN="local", GOFLAGS="-mod=mod")
    assert_lists_the_profiles(run(go, "run", ".", directory=workplace, GOTOOLCHAIN="local", GOFLAGS="-mod=mod"))


def _go_options(generated: Path) -> tuple[tuple[str, str], ...]:
    return ("out", str(generated)), ("opt", "module=keyreeve")


def test_the_node_snippet_runs(control_plane: ControlPlane, workplace: Path) -> None:
    node, npm = find_program("node"), find_program("npm")
    (workplace / "proto").symlink_to(ROOT / "proto")
    run(npm, "install", "--no-audit", "--no-fund", "--prefix", str(workplace), *NODE_PACKAGES, directory=workplace)
    (workplace / "client.js").write_text(snippet("js", control_plane))
    assert_lists_the_profiles(run(node, "client.js", directory=workplace))


def test_the_java_snippet_compiles_and_runs(control_plane: ControlPlane, workplace: Path) -> None:
    java, maven = find_program("javac").removesuffix("c"), find_program("mvn")
    (workplace / "pom.xml").write_text(POM)
    sources = workplace / "src/main/java"
    sources.mkdir(parents=True)
    (sources / "Client.java").write_text(f"{JAVA_IMPORTS}{snippet('java', control_plane)}}}\n}}\n")
    goals = ("compile", "dependency:build-classpath")
    run(maven, "-q", "-B", *goals, f"-Dmdep.outputFile={workplace}/classpath", directory=workplace)
    classpath = f"{workplace}/target/classes:{(workplace / 'classpath').read_text()}"
    assert_lists_the_profiles(run(java, "-cp", classpath, "Client", directory=workplace))
