//! The ciphers and the certificate that str0m asks for, in Rust alone.
//!
//! After: RFC 3711 and RFC 7714 (SRTP), RFC 8489 14.5 (STUN), RFC 5764 (DTLS-SRTP)
//!
//! str0m's own backend of this kind brings a certificate crate that compiles a C library; so its interface is filled
//! here with the same RustCrypto crates.

use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use hmac::{Hmac, Mac};
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::rand_core::{OsRng, RngCore};
use p256::pkcs8::EncodePrivateKey;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::crypto::dtls::{DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion};
use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, CryptoProvider,
    Sha1HmacProvider, Sha256Provider, SrtpProvider, SupportedAeadAes128Gcm, SupportedAeadAes256Gcm,
    SupportedAes128CmSha1_80,
};
use x509_cert::builder::{Builder, CertificateBuilder, Profile};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::Validity;

/// How long the certificate is good for; it is made anew at each start.
const VALIDITY: Duration = Duration::from_secs(400 * 24 * 3600);

/// The tag that GCM puts behind what it encrypts.
const TAG_LEN: usize = 16;

/// What all peers of an engine share: our certificate and the ciphers.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: DtlsCert,
    pub provider: Arc<CryptoProvider>,
}

impl Identity {
    /// Make a key and its certificate. None when the system gives no randomness.
    pub fn new() -> Option<Self> {
        let provider = CryptoProvider {
            srtp_provider: &Ciphers,
            sha1_hmac_provider: &Ciphers,
            sha256_provider: &Ciphers,
            dtls_provider: &Ciphers,
        };
        Some(Self { certificate: certificate()?, provider: Arc::new(provider) })
    }
}

/// A certificate that signs itself; the browser knows it by the fingerprint in our answer.
fn certificate() -> Option<DtlsCert> {
    let mut serial = [0u8; 16];
    OsRng.try_fill_bytes(&mut serial).ok()?;
    serial[0] &= 0x7F; // A serial number is positive.
    let key = SigningKey::random(&mut OsRng);
    let public = SubjectPublicKeyInfoOwned::from_key(*key.verifying_key()).ok()?;
    let builder = CertificateBuilder::new(
        Profile::Manual { issuer: None },
        SerialNumber::new(&serial).ok()?,
        Validity::from_now(VALIDITY).ok()?,
        Name::from_str("CN=tongshi").ok()?,
        public,
        &key,
    )
    .ok()?;
    let built = builder.build::<DerSignature>().ok()?;
    Some(DtlsCert {
        certificate: x509_cert::der::Encode::to_der(&built).ok()?,
        private_key: key.to_pkcs8_der().ok()?.as_bytes().to_vec(),
    })
}

#[derive(Debug)]
struct Ciphers;

impl Sha1HmacProvider for Ciphers {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        // HMAC takes a key of any length, so this never falls back.
        let Ok(mut mac) = <Hmac<Sha1> as Mac>::new_from_slice(key) else { return [0; 20] };
        payloads.iter().for_each(|payload| mac.update(payload));
        mac.finalize().into_bytes().into()
    }
}

impl Sha256Provider for Ciphers {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }
}

impl SrtpProvider for Ciphers {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &Ciphers
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Ciphers
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Ciphers
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        encrypt_blocks(&Aes128::new(GenericArray::from_slice(key)), input, output);
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        encrypt_blocks(&Aes256::new(GenericArray::from_slice(key)), input, output);
    }
}

/// One block and the padding block behind it, as the caller's 32 bytes expect.
fn encrypt_blocks<C>(cipher: &C, input: &[u8], output: &mut [u8])
where
    C: BlockEncrypt<BlockSize = aes::cipher::consts::U16>,
{
    for (block, source) in output.chunks_exact_mut(16).zip([input, &[16; 16]]) {
        block.copy_from_slice(source);
        cipher.encrypt_block(GenericArray::from_mut_slice(block));
    }
}

impl SupportedAes128CmSha1_80 for Ciphers {
    fn create_cipher(&self, key: [u8; 16], _encrypt: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(CounterMode(key))
    }
}

#[derive(Debug)]
struct CounterMode([u8; 16]);

impl Aes128CmSha1_80Cipher for CounterMode {
    fn encrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let mut cipher = ctr::Ctr128BE::<Aes128>::new(&self.0.into(), iv.into());
        let output = output.get_mut(..input.len()).ok_or_else(too_small)?;
        cipher.apply_keystream_b2b(input, output).map_err(|_| too_small())
    }

    fn decrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.encrypt(iv, input, output)
    }
}

fn too_small() -> CryptoError {
    CryptoError::Other("the buffer does not fit".into())
}

impl SupportedAeadAes128Gcm for Ciphers {
    fn create_cipher(&self, key: [u8; 16], _encrypt: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(Gcm(Aes128Gcm::new(&key.into())))
    }
}

impl SupportedAeadAes256Gcm for Ciphers {
    fn create_cipher(&self, key: [u8; 32], _encrypt: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Gcm(Aes256Gcm::new(&key.into())))
    }
}

struct Gcm<C>(C);

impl<C> std::fmt::Debug for Gcm<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gcm") // Never the key.
    }
}

impl<C> Gcm<C>
where
    C: AeadInPlace<NonceSize = aes::cipher::consts::U12, TagSize = aes::cipher::consts::U16>,
{
    fn seal(&self, iv: &[u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let output = output.get_mut(..input.len() + TAG_LEN).ok_or_else(too_small)?;
        let (text, tag) = output.split_at_mut(input.len());
        text.copy_from_slice(input);
        let made = self.0.encrypt_in_place_detached(iv.into(), aad, text).map_err(|_| too_small())?;
        tag.copy_from_slice(&made);
        Ok(())
    }

    fn open(
        &self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let length = input.len().checked_sub(TAG_LEN).ok_or_else(too_small)?;
        let text = output.get_mut(..length).ok_or_else(too_small)?;
        text.copy_from_slice(&input[..length]);
        let tag = GenericArray::from_slice(&input[length..]);
        self.0
            .decrypt_in_place_detached(iv.into(), &aads.concat(), text, tag)
            .map_err(|_| CryptoError::Other("the packet is not authentic".into()))?;
        Ok(length)
    }
}

impl AeadAes128GcmCipher for Gcm<Aes128Gcm> {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(iv, aads, input, output)
    }
}

impl AeadAes256GcmCipher for Gcm<Aes256Gcm> {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(iv, aads, input, output)
    }
}

impl DtlsProvider for Ciphers {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        _version: DtlsVersion,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        // ICE has shown already that the peer receives where it says, so no cookie is needed.
        let config = dimpl::Config::builder()
            .use_server_cookie(false)
            .build()
            .map_err(|e| CryptoError::Other(e.to_string()))?;
        Ok(Box::new(Dtls(dimpl::Dtls::new_12(Arc::new(config), certificate.clone(), now))))
    }
}

struct Dtls(dimpl::Dtls);

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dtls")
    }
}

impl DtlsInstance for Dtls {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buffer)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<(), DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn hmac_and_counter_mode_give_the_published_values() {
        // RFC 2202 case 2, in two pieces.
        let mac = Ciphers.sha1_hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac.to_vec(), hex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"));
        // RFC 3711 B.2.
        let key: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let iv: [u8; 16] = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd0000").try_into().unwrap();
        let mut out = [0; 32];
        CounterMode(key).encrypt(&iv, &[0; 32], &mut out).unwrap();
        assert_eq!(out.to_vec(), hex("e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab"));
    }

    #[test]
    fn gcm_opens_what_it_sealed_and_nothing_else() {
        let gcm = Gcm(Aes128Gcm::new(&[7; 16].into()));
        let (mut sealed, mut opened) = ([0; 21], [0; 5]);
        gcm.seal(&[1; 12], b"header", b"media", &mut sealed).unwrap();
        assert_eq!(gcm.open(&[1; 12], &[b"hea", b"der"], &sealed, &mut opened).unwrap(), 5);
        assert_eq!(&opened, b"media");
        assert!(gcm.open(&[1; 12], &[b"Header"], &sealed, &mut opened).is_err());
        assert!(gcm.open(&[1; 12], &[b""], &sealed[..9], &mut opened).is_err());
        assert!(gcm.seal(&[1; 12], b"", b"media", &mut [0; 20]).is_err());
    }

    #[test]
    fn every_start_has_a_certificate_of_its_own() {
        let (one, other) = (Identity::new().unwrap(), Identity::new().unwrap());
        assert_ne!(one.certificate.certificate, other.certificate.certificate);
    }
}
