import os

SECRET_KEY = "for tests"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "static/"
USE_TZ = True
DATABASES = {
    name: {"ENGINE": "django.db.backends.postgresql", "NAME": f"{database}", "USER": "postgres", "HOST": os.environ["PGHOST"]}
    for name, database in (("default", "shop"), ("second", "store"))
}
